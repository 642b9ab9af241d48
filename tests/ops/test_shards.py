"""The pair losses of a batch that several ranks hold, split by hand: every rank's loss is that of all rows, and its gradient
that of its rows."""

import contextvars
import threading
from functools import partial

import pytest
import torch
from t_cases import Case as TCase
from wasserstein_cases import Case

from deepclust_accel import ops

KINDS = [("global", True), ("global", False), ("rows", True), ("rows", False)]


class Ranks:
    """Threads that take the parts of ranks; `gather` waits until all have come."""

    def __init__(self, sizes):
        self.starts = [sum(sizes[:r]) for r in range(len(sizes))]
        self.barrier, self.parts = threading.Barrier(len(sizes), timeout=60), [None] * len(sizes)

    def gather(self, rank, rows):
        self.parts[rank] = rows
        self.barrier.wait()
        everything = torch.cat(self.parts)
        self.barrier.wait()
        return everything, self.starts[rank]


def sharded(call, inputs, sizes):
    """Losses of the ranks, and the gradients of all rows put together."""
    ranks, losses, gradients = Ranks(sizes), [None] * len(sizes), [None] * len(sizes)
    shards = list(zip(*(x.split(sizes) for x in inputs), strict=True))

    def play(rank):
        leaves = [x.clone().requires_grad_() for x in shards[rank]]
        losses[rank] = call(*leaves, gather=partial(ranks.gather, rank))
        gradients[rank] = torch.autograd.grad(losses[rank] * 2, leaves)

    contexts = [contextvars.copy_context() for _ in sizes]
    threads = [threading.Thread(target=c.run, args=(play, rank)) for rank, c in enumerate(contexts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return losses, [torch.cat(parts) / 2 for parts in zip(*gradients, strict=True)]


def agree(call, inputs, sizes, tolerance):
    leaves = [x.double().requires_grad_() for x in inputs]
    with ops.backend("reference"):
        want = call(*leaves)
    wanted = torch.autograd.grad(want, leaves)
    losses, gradients = sharded(call, inputs, sizes)
    assert all(loss.dtype == inputs[0].dtype and loss.shape == () for loss in losses)
    for loss in losses:
        torch.testing.assert_close(loss.double(), want.detach(), rtol=tolerance, atol=1e-14)
    for got, exact in zip(gradients, wanted, strict=True):
        assert (got - exact).norm() <= tolerance * exact.norm() + 1e-14


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [(64, 64), (1, 63, 3), (70, 130), (5, 200, 64, 31), (9,)], ids=str)
def test_wasserstein_similarity(kernel, dtype, sizes):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    n = sum(sizes)
    for case in (Case(n, 7, 5), Case(n, 3, 4, empty=True), Case(n, 7, 5, shift=1e3)):
        for normalization in ("pairs", "rows"):
            call = partial(ops.wasserstein_similarity, normalization=normalization)
            if kernel == "reference" and case.shift and dtype == torch.float32:
                continue  # the plain formula in float32 has no digits there, in one process neither
            agree(call, case.inputs(dtype), sizes, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sizes", [(64, 64), (1, 63, 3), (70, 130), (5, 200, 64, 31), (9,)], ids=str)
def test_t_similarity(kernel, dtype, sizes):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for dof_e in (1.0, 4.0):
        for kind in KINDS:
            case = TCase(sum(sizes), 7, 5, 14.0, dof_e, *kind)
            agree(case.call, case.inputs(dtype), sizes, tolerance)


@pytest.mark.parametrize("op", ["wasserstein_similarity", "t_similarity"])
def test_shards_are_recorded_and_refuse_a_second_derivative(op):
    call, inputs = (
        (ops.wasserstein_similarity, Case(20, 3, 4).inputs(torch.float64))
        if op == "wasserstein_similarity"
        else (partial(ops.t_similarity, dof_z=4.0), TCase(20, 3, 4).inputs(torch.float64))
    )
    leaves = [x.requires_grad_() for x in inputs]
    with ops.record() as used:
        loss = call(*leaves, gather=lambda rows: (rows, 0))
    assert set(used) == {op} and used[op]["calls"] >= 1
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad|twice"):
        torch.autograd.grad(first[0].sum(), leaves)
    with pytest.raises(ValueError, match=f"{op}: result of gather: expected .* got"):
        call(*leaves, gather=lambda rows: (rows, 1))


def test_a_detached_side_gets_no_gradient():
    mu, sigma, gamma = (x.requires_grad_() for x in Case(20, 3, 4).inputs(torch.float64))
    loss = ops.wasserstein_similarity(mu, sigma, gamma, detach_weights=True, gather=lambda rows: (rows, 0))
    assert torch.autograd.grad(loss, gamma, allow_unused=True) == (None,)


def test_steps_are_well_formed_operators():
    mu, sigma, gamma = Case(20, 3, 4).inputs(torch.float64)
    own, size = torch.ops.dcaccel, gamma.sum(0)
    torch.library.opcheck(own.wasserstein_similarity_own_sums.default, (mu, sigma, gamma, 5, 7))
    torch.library.opcheck(own.wasserstein_similarity_own_pull.default, (mu, sigma, gamma, gamma.sum(1), size, 5, 7))
    z, e = TCase(20, 3, 4).inputs(torch.float64)
    torch.library.opcheck(own.t_similarity_own_nearest.default, (z, e, 6.0, 1.0, True, 5, 7))
    options = (6.0, 1.0, True, True, 0.0, 0.0, 5, 7)
    torch.library.opcheck(own.t_similarity_own_sums.default, (z, e, z.new_zeros(20, 2), *options))
    torch.library.opcheck(own.t_similarity_own_pull.default, (z, e, z.new_ones(20, 5), *options))
    with pytest.raises(RuntimeError, match="as ops.<name> passes them"):
        own.wasserstein_similarity_own_sums.default(mu, sigma, gamma, 15, 7)
