"""residual_block in use: errors, torch's contracts, autocast, threads, memory, derivatives of derivatives."""

import itertools

import pytest
import torch
from residual_cases import LAST, Case, eager
from torch import nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from deepclust_accel import ops
from deepclust_accel.ops import residual_block

X, W, B = torch.ones(2, 3, 4, 4), torch.ones(3, 3, 3, 3), torch.ones(3)
native = pytest.mark.skipif(not ops.instruction_sets(), reason=ops.report()["residual_block"]["cpu"])
USED = [Case((3, 3, 4, 5)), Case((3, 3, 4, 5), last=True), Case((40, 32, 2, 2)), Case((9, 32, 4, 4), last=True)]
USED += [Case((5, 6)), Case((3, 1, 4, 4)), Case((3, 16, 1, 1)), Case((4, 7, 3, 3), strided=True)]


def step(call, arguments, grad):
    leaves = [x.detach().requires_grad_() for x in arguments]
    return torch.autograd.grad(call(*leaves), leaves, grad)


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ((X, W, B, W, [1.0]), TypeError, "bias2: expected a tensor, got list"),
        ((X.int(), W, B, W, B), TypeError, "dtype of x: expected a floating type, got torch.int32"),
        ((X[0], W, B, W, B), ValueError, r"shape of x: expected \(N, C, H, W\) or \(N, C\), got \(3, 4, 4\)"),
        (
            (X, W[:, :2], B, W, B),
            ValueError,
            r"shape of weight1: expected \(3, 3, 3, 3\), for x .*, got \(3, 2, 3, 3\)",
        ),
        (
            (X, W, B, W[..., :1], B),
            ValueError,
            r"shape of weight2: expected \(3, 3, 3, 3\), for x .*got \(3, 3, 3, 1\)",
        ),
        ((X[:, :, 0, 0], W, B, W, B), ValueError, r"shape of weight1: expected \(3, 3\), for x \(2, 3\), got"),
        ((X, W, B[:2], W, B), ValueError, r"shape of bias1: expected \(3,\), got \(2,\)"),
        ((X[:, :, :0], W, B, W, B), ValueError, r"sizes of x: expected C, H and W of at least 1, got \(2, 3, 0, 4\)"),
        ((X, W, B, W.double(), B), ValueError, "dtypes of the arguments: expected one dtype"),
        ((X, W, B, W, B.to("meta")), ValueError, "devices of the arguments: expected one device"),
    ],
)
def test_bad_arguments(arguments, kind, message):
    with pytest.raises(kind, match="residual_block: " + message + ".*; "):
        residual_block(*arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", USED, ids=str)
def test_opcheck(case, dtype):
    *inputs, grad = case.inputs(dtype)
    leaves = [x.clone().requires_grad_() for x in inputs]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.dcaccel.residual_block.default, tuple(leaves), test_utils=tests)
    out, hidden = torch.ops.dcaccel.residual_block.default(*inputs)
    x, weight1, _, weight2, _ = inputs
    for needs in ((True,) * 5, (False, True, False, False, True), (True, False, False, False, False)):
        arguments = (x, hidden, out, weight1, weight2, grad, *needs)
        torch.library.opcheck(torch.ops.dcaccel.residual_block_bwd.default, arguments)


@pytest.mark.parametrize("last", [False, True])
def test_compiles_into_one_graph(last):
    def twice(x, *parameters):
        return residual_block(residual_block(x * 2, *parameters), *parameters)

    *inputs, grad = Case((10, 32, 4, 4), last=last).inputs(torch.float32)
    compiled = torch.compile(twice, fullgraph=True)
    for got, want in zip(step(compiled, inputs, grad), step(twice, inputs, grad), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_second_derivatives_need_the_reference():
    leaves = [x.clone().requires_grad_() for x in Case((2, 2, 2, 3)).inputs(torch.float64)[:5]]
    first = torch.autograd.grad(residual_block(*leaves).sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"ops\.backend\('reference'\)"):
        sum(g.square().sum() for g in first).backward()
    with ops.backend("reference"):
        assert torch.autograd.gradgradcheck(residual_block, leaves)


@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (40, 32, 2, 2), (5, 6)], ids=str)
def test_autocast_does_as_convolutions_do(shape):
    *inputs, grad = Case(shape).inputs(torch.float32)
    leaves = [x.clone().requires_grad_() for x in inputs]
    half = [x.bfloat16() for x in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        value = residual_block(*leaves)
        assert residual_block(*(x.double() for x in inputs)).dtype == torch.float64  # as eager
    assert value.dtype == torch.bfloat16 and torch.equal(value, residual_block(*half))
    value.backward(grad.bfloat16())
    for leaf, want in zip(leaves, step(residual_block, half, grad.bfloat16()), strict=True):
        assert leaf.grad.dtype == torch.float32 and torch.equal(leaf.grad, want.float())


def test_trains_as_the_modules_it_replaces():
    """Three steps of SGD from the same start, parameters of nn.Conv2d channels last."""
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(32, 32, 3, padding=1) for _ in range(2)]).to(memory_format=LAST)
    x = torch.randn(16, 32, 8, 8).contiguous(memory_format=LAST)
    found = []
    for call in (residual_block, eager):
        parameters = [p.detach().clone().requires_grad_() for p in layers.parameters()]
        optimizer = torch.optim.SGD(parameters, 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            call(x, *parameters).square().mean().backward()
            optimizer.step()
        found.append([p.detach() for p in parameters])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@native
@pytest.mark.parametrize("case", [Case((300, 32, 4, 4)), Case((9, 96, 6, 8)), Case((70, 64, 2, 2))], ids=str)
def test_bits_depend_on_nothing_but_the_number_of_threads(case):
    *inputs, grad = case.inputs(torch.float32)
    torch.set_num_threads(1)
    want = residual_block(*inputs)
    g_x = step(residual_block, inputs, grad)[0]
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        first, again = step(residual_block, inputs, grad), step(residual_block, inputs, grad)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert torch.equal(residual_block(*inputs), want) and torch.equal(first[0], g_x)  # these not even on that


def peak(call, arguments, grad):
    """Bytes that exist at most because of a step beyond the gradients it returns, of those that torch allocates."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    torch.autograd.grad(call(*leaves), leaves, grad)  # buffers that live on are no business of the step
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as events:
        out = call(*leaves)
        gradients = torch.autograd.grad(out, leaves, grad)
    found, todo = [], list(events.profiler.kineto_results.experimental_event_tree())
    while todo:
        event = todo.pop()
        todo += event.children
        if event.typed[0] == _EventType.Allocation:
            found.append((event.start_time_ns, event.typed[1].ptr, event.typed[1].alloc_size))
    found.sort(key=lambda each: each[0])
    last = {pointer: i for i, (_, pointer, size) in enumerate(found) if size > 0}
    returned = {last[g.data_ptr()] for g in gradients}
    return max(itertools.accumulate(size for i, (_, _, size) in enumerate(found) if i not in returned))


@native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(256, 64, 16, 16), (256, 128, 8, 8), (256, 256, 4, 4), (256, 512, 2, 2)], ids=str)
def test_memory_of_a_step_is_three_quarters_of_eager(shape, dtype):
    """At the shapes of DCFAE; scratch is per thread, and these shapes are for few of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(2, threads))
    found = {}
    for last in (False, True):
        *inputs, grad = Case(shape, last=last).inputs(dtype)
        found |= {(call.__name__, last): peak(call, inputs, grad) for call in (residual_block, eager)}
    torch.set_num_threads(threads)
    ours, theirs = found["residual_block", True], min(found["eager", False], found["eager", True])
    assert ours <= 0.75 * theirs, found


@native
def test_between_forward_and_backward_only_what_the_gradient_needs_is_kept():
    leaves = [x.clone().requires_grad_() for x in Case((40, 32, 8, 8), last=True).inputs(torch.float32)[:5]]
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        out = residual_block(*leaves)
    sizes = sorted(t.nbytes for t in kept.values())
    x, weight = leaves[0].nbytes, leaves[1].nbytes
    assert sizes == sorted([x, x, x, weight, weight]) and out.data_ptr() in kept  # x, the inner result, out
