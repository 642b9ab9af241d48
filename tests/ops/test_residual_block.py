"""residual_block: known answers first, then eager PyTorch in float64, in every layout, type and instruction set."""

import numpy as np
import pytest
import torch
from residual_cases import CASES, LAST, OWN, Case, by_loops, eager

from deepclust_accel import ops
from deepclust_accel.ops import residual_block

LEVELS = ("baseline", "avx2", "avx512")
# Relative L2 error of a value: several roundings, few for float64.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 5e-15, torch.bfloat16: 8e-3, torch.float16: 1e-3}
HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(params=[*LEVELS, "reference"])
def kernel(request):
    """Every kernel there is; those this machine cannot run are skipped by name."""
    if request.param == "reference":
        with ops.backend("reference"):
            yield request.param
        return
    if request.param not in ops.instruction_sets():
        missing = ops.report()["residual_block"]["cpu"] if not ops.instruction_sets() else "this CPU does not have it"
        pytest.skip(f"{request.param}: {missing}")
    before = ops.instruction_set()
    ops.set_instruction_set(request.param)
    with ops.backend("native"):
        yield request.param
    ops.set_instruction_set(before)


def run(call, arguments, grad):
    """The value, then the gradients of all arguments."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    value = call(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves, grad)


def error(got, want):
    size = want.norm().item()
    return (got.double() - want).norm().item() / (size if size else 1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 1), (40, 32, 2, 2), (8, 32, 4, 4)], ids=str)
def test_against_loops_in_numpy(kernel, shape):
    if kernel == "reference" and shape[1] > 3:
        pytest.skip("the reference does the same for all sizes")
    x, weight1, bias1, weight2, bias2, _ = Case(shape).inputs(torch.float32)
    few = x[:2].double().numpy()  # the images do not depend on each other
    parts = [p.double().numpy() for p in (weight1, bias1, weight2, bias2)]
    hidden = np.maximum(by_loops(few, *parts[:2]), 0)
    want = np.maximum(few + by_loops(hidden, *parts[2:]), 0)
    got = residual_block(x, weight1, bias1, weight2, bias2)[:2].double().numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(3, 5, 3, 4), (40, 32, 2, 2), (4, 32, 6, 5), (6, 4)], ids=str)
def test_closed_forms(kernel, shape, dtype):
    """Zero weights leave relu(x + bias2); identities give relu(x + relu(x + bias1) + bias2); a shift moves pixels."""
    x, weight, bias1, _, bias2, grad = Case(shape).inputs(dtype)
    zero, one = torch.zeros_like(weight), torch.zeros_like(weight)
    (one if len(shape) == 2 else one[:, :, 1, 1]).fill_diagonal_(1)
    around = [1, -1, *[1] * (len(shape) - 2)]
    b1, b2 = bias1.view(around), bias2.view(around)
    limit = dict(rtol=0, atol=32 * torch.finfo(dtype).eps)
    value, g_x, *_, g_bias2 = run(residual_block, (x, zero, bias1, zero, bias2), grad)
    torch.testing.assert_close(value, (x + b2).relu(), **limit)
    passed = torch.where(value > 0, grad, 0)
    torch.testing.assert_close(g_x, passed)
    sums = passed.double().sum([i for i in range(x.dim()) if i != 1])
    assert error(g_bias2, sums) < TOLERANCE[dtype]
    torch.testing.assert_close(residual_block(x, one, bias1, one, bias2), (x + (x + b1).relu() + b2).relu(), **limit)
    if len(shape) == 4:
        left = torch.zeros_like(weight)
        left[:, :, 1, 0].fill_diagonal_(1)  # takes the pixel to the left; the first column gets zeros
        moved = torch.zeros_like(x)
        moved[..., 1:] = (x[..., :-1]).relu()
        got = residual_block(x, one, torch.zeros_like(bias1), left, torch.zeros_like(bias2))
        torch.testing.assert_close(got, (x + moved).relu(), **limit)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_eager_in_float64(kernel, case, dtype):
    *arguments, grad = case.inputs(dtype)
    want = run(eager, [x.double() for x in arguments], grad.double())
    got = run(residual_block, arguments, grad)
    assert all(g.dtype == dtype and g.shape == w.shape for g, w in zip(got, want, strict=True))
    rival = run(eager, arguments, grad)
    found = [error(g, w) for g, w in zip(got, want, strict=True)]
    theirs = [error(g, w) for g, w in zip(rival, want, strict=True)]
    assert found[0] <= TOLERANCE[dtype], (found, theirs)
    # A hidden value rounded to the other side of zero changes gradients by more than rounding, for eager as for us.
    assert all(ours <= 2 * max(other, TOLERANCE[dtype]) for ours, other in zip(found, theirs, strict=True)), (
        found,
        theirs,
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts_of_results(kernel, case):
    *arguments, grad = case.inputs(torch.float32)
    value, g_x, g_weight1, _, g_weight2, _ = run(residual_block, arguments, grad)
    layout = LAST if case.last and not arguments[0].is_contiguous() else torch.contiguous_format
    assert value.is_contiguous(memory_format=layout) and g_x.is_contiguous(memory_format=layout)
    if kernel == "reference":
        return  # torch chooses layouts of weights, and another algorithm for another layout
    assert g_weight1.stride() == arguments[1].stride() and g_weight2.stride() == arguments[3].stride()
    if len(case.shape) == 4:  # the layout changes no bit
        x, grad = (t.contiguous(memory_format=LAST).contiguous() for t in (arguments[0], grad))
        again = run(residual_block, (x, *arguments[1:]), grad)
        assert all(torch.equal(a, b) for a, b in zip(again, (value, g_x), strict=False))


@pytest.mark.parametrize("case", [Case((3, 3, 4, 3), last=True), Case((40, 32, 2, 2)), Case((150, 64, 4, 4))], ids=str)
@pytest.mark.parametrize("wanted", range(32))
def test_only_the_gradients_that_are_needed(case, wanted):
    *arguments, grad = case.inputs(torch.float32)
    full = run(residual_block, arguments, grad)[1:]
    leaves = [x.clone().requires_grad_(bool(wanted >> i & 1)) for i, x in enumerate(arguments)]
    value = residual_block(*leaves)
    assert value.requires_grad == bool(wanted)
    if wanted:
        value.backward(grad)
    for i, (leaf, want) in enumerate(zip(leaves, full, strict=True)):
        assert leaf.grad is None if not wanted >> i & 1 else error(leaf.grad, want.double()) < 1e-6


def test_not_a_number_comes_through(kernel):
    for case in (Case((3, 3, 4, 4)), Case((40, 32, 2, 2)), Case((4, 32, 6, 6)), Case((4, 5))):
        *arguments, grad = case.inputs(torch.float32)
        arguments[0] = arguments[0].clone()
        arguments[0][1, 2] = torch.nan
        value, *gradients = run(residual_block, arguments, grad)
        assert value[1].isnan().any() and value[0].isfinite().all() and value[2].isfinite().all()
        assert gradients[1].isnan().any() and gradients[0][2].isfinite().all()


def test_gradcheck(kernel):
    for case in (Case((2, 2, 3, 2), last=True), Case((3, 4))):
        leaves = [x.clone().requires_grad_() for x in case.inputs(torch.float64)[:5]]
        assert torch.autograd.gradcheck(residual_block, leaves)


def test_the_table_reaches_what_it_says():
    ours = ops.residual_block.__globals__["_ours"]
    assert all(ours(case.inputs(torch.float32)[0]) for case in OWN)
    assert not any(ours(case.inputs(torch.float32)[0]) for case in CASES if case not in OWN)
