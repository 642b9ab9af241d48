"""DCFAE's residual block: two convolutions (or linear layers) whose bias, skip and relu are part of their last pass.

On the CPU the kernel convolves tiles with fewer products than a direct sum where that wins, and calls torch's
convolutions where it does not; `_ours` decides. It keeps x and the two results of relu, never what relu was given.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from . import _native
from ._define import NAMESPACE, define

_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_LAST = torch.channels_last
_PANEL = 32  # csrc/residual_block/winograd.h: channels come in panels
_PLAIN = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)  # stride, padding, dilation, transposed, its padding, groups


def _format(x: Tensor) -> torch.memory_format:
    """The layout of the result; dense ones stay what they are."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=_LAST) and not x.is_contiguous()
    return _LAST if last else torch.contiguous_format


def _on_cuda(x: Tensor) -> bool:
    return x.is_cuda


def _inner_format(x: Tensor) -> torch.memory_format:
    """The layout everything is computed in: that of x on CUDA; oneDNN likes small images either way, and all else is
    for channels last."""
    if not _on_cuda(x) and x.dim() == 4 and (x.shape[2] * x.shape[3] > 16 or x.dtype != torch.bfloat16 or _ours(x)):
        return _LAST
    return _format(x)


def _laid_out(x: Tensor, layout: torch.memory_format) -> Tensor:
    """x in a layout; unlike what ``contiguous`` returns, strides of sizes that are one are the usual ones too."""
    x = x.contiguous(memory_format=layout)
    if x.dim() != 4:
        return x
    _, c, h, w = x.shape
    strides = (c * h * w, 1, w * c, c) if layout == _LAST else (c * h * w, h * w, w, 1)
    return x if x.stride() == strides else x.as_strided(x.shape, strides)


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(x, weight, bias) if x.dim() == 2 else F.conv2d(x, weight, bias, padding=1)


def _reference(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> tuple[Tensor, Tensor]:
    hidden = torch.relu(_apply(x, weight1, bias1))
    out = torch.relu(x + _apply(hidden, weight2, bias2))
    return _laid_out(out, _format(x)), _laid_out(hidden, _inner_format(x))


def _reference_bwd(
    x: Tensor, hidden: Tensor, out: Tensor, weight1: Tensor, weight2: Tensor, grad: Tensor,
    need_x: bool, need_weight1: bool, need_bias1: bool, need_weight2: bool, need_bias2: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The derivative in closed form, as in the header of csrc/residual_block/math.h."""
    over = [i for i in range(x.dim()) if i != 1]
    g = grad.masked_fill(out <= 0, 0)
    g_h, g_weight2 = _product_gradients(g, hidden, weight2, True, need_weight2)
    g_h = g_h.masked_fill(hidden <= 0, 0)
    g_x, g_weight1 = _product_gradients(g_h, x, weight1, need_x, need_weight1)
    return (
        _laid_out(g + g_x, _format(x)) if need_x else x.new_empty(0),
        _laid_out_like(weight1, g_weight1) if need_weight1 else x.new_empty(0),
        g_h.sum(over) if need_bias1 else x.new_empty(0),
        _laid_out_like(weight2, g_weight2) if need_weight2 else x.new_empty(0),
        g.sum(over) if need_bias2 else x.new_empty(0),
    )


def _product_gradients(g: Tensor, x: Tensor, weight: Tensor, need_x: bool, need_weight: bool) -> tuple[Any, Any]:
    """Gradients of the input and the weight of a convolution or a linear layer; None where not needed."""
    if x.dim() == 2:
        return g @ weight if need_x else None, g.T @ x if need_weight else None
    needs = [need_x, need_weight, False]
    g_x, g_weight, _ = torch.ops.aten.convolution_backward.default(g, x, weight, None, *_PLAIN, needs)
    return g_x, g_weight


def _laid_out_like(weight: Tensor, g: Tensor) -> Tensor:
    like = torch.empty_like(weight)
    return g if g.stride() == like.stride() else like.copy_(g)


def _fake(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=_format(x)), torch.empty_like(x, memory_format=_inner_format(x))


def _fake_bwd(
    x: Tensor, hidden: Tensor, out: Tensor, weight1: Tensor, weight2: Tensor, grad: Tensor,
    need_x: bool, need_weight1: bool, need_bias1: bool, need_weight2: bool, need_bias2: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    return (
        torch.empty_like(x, memory_format=_format(x)) if need_x else x.new_empty(0),
        torch.empty_like(weight1) if need_weight1 else x.new_empty(0),
        x.new_empty(x.shape[1]) if need_bias1 else x.new_empty(0),
        torch.empty_like(weight2) if need_weight2 else x.new_empty(0),
        x.new_empty(x.shape[1]) if need_bias2 else x.new_empty(0),
    )


@functools.cache
def _fast_bfloat16() -> tuple[bool, bool]:
    """Whether this CPU multiplies bfloat16 faster than float32: at all, and in tiles (AMX)."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16")), bool(has.get("amx_bf16"))


_pointwise = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_pointwise_into = getattr(torch.ops.mkldnn, "_convolution_pointwise_", None)
_UNARY = ([1, 1], [1, 1], [1, 1], 1, "relu", [], "")  # padding, stride, dilation, groups, what follows
_BINARY = ([1, 1], [1, 1], [1, 1], 1, "add", 1.0)


def _onednn(x: Tensor) -> bool:
    """Whether oneDNN's convolutions can take the tail along; torch.compile uses the same operators.

    Only channels last, and not where a size is one: torch may fall back to a sum with relu that lacks bfloat16.
    """
    if _on_cuda(x) or x.dim() != 4 or x.shape[1] % 16 or min(x.shape) < 2 or _inner_format(x) != _LAST:
        return False
    suits = x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _fast_bfloat16()[0])
    there = _pointwise is not None and _pointwise_into is not None
    return suits and there and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled


def _ours(x: Tensor) -> bool:
    """Whether our convolutions are the faster ones (measured on two cores of an AVX-512 machine, batch 256).

    For bfloat16 those of the gradients, and not where oneDNN has tiles (AMX).

    They need few enough products for the pixels there are, and enough pixels to pay for transforming the weights.
    """
    if _on_cuda(x) or x.dim() != 4 or x.dtype == torch.float64 or x.shape[1] % _PANEL:
        return False
    rows, _, height, width = x.shape
    tiles = -(-height // 2) * -(-width // 2)
    if x.dtype == torch.bfloat16 and _fast_bfloat16()[1]:
        return False
    products, taps = 9 if _alone(x) else 16 * tiles, (3 * height - 2) * (3 * width - 2)
    return products < 0.8 * taps and rows * tiles >= 32


def _alone(x: Tensor) -> bool:
    """Whether an image is one tile."""
    return max(x.shape[2:]) <= 2


def _ours_forward(x: Tensor) -> bool:
    """Whether they also are in the forward, where they multiply float32: bfloat16 would round too much, see winograd.h."""
    return _ours(x) and (x.dtype != torch.bfloat16 or _alone(x) or not _onednn(x))


def _forward(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> tuple[Tensor, Tensor]:
    if _ours_forward(x):
        x = _laid_out(x, _format(x))
        hidden, out = torch.empty_like(x, memory_format=_LAST), torch.empty_like(x)
        biases = bias1.contiguous(), bias2.contiguous()
        torch.ops.dcaccel._residual_forward(x, weight1, biases[0], weight2, biases[1], hidden, out)
        return out, hidden
    layout = _inner_format(x)
    own = _laid_out(x, layout)
    if _onednn(x):
        hidden = _pointwise(own, weight1, bias1, *_UNARY)
        if own.data_ptr() == x.data_ptr():
            out = _pointwise.binary(hidden, own, weight2, bias2, *_BINARY, "relu", [], "")
        else:  # a copy, which the result may take
            out = _pointwise_into.binary(own, hidden, weight2, bias2, *_BINARY, "relu", [], "")
    elif _on_cuda(x):  # torch adds a bias in a pass of its own; the tail takes it along
        hidden = _tail(_laid_out(_apply(own, weight1, None), layout), bias1, None)
        out = _tail(_laid_out(_apply(hidden, weight2, None), layout), bias2, own)
    else:
        hidden = _laid_out(_apply(own, weight1, bias1), layout).relu_()
        out = _tail(_laid_out(_apply(hidden, weight2, bias2), layout), None, own)
    return _laid_out(out, _format(x)), _laid_out(hidden, layout)


def _tail(y: Tensor, bias: Tensor | None, skip: Tensor | None) -> Tensor:
    """relu(y + bias + skip) in place of y; y and skip are of one layout."""
    torch.ops.dcaccel._residual_tail(y, None if bias is None else bias.contiguous(), skip)
    return y


def _backward_native(
    x: Tensor, hidden: Tensor, out: Tensor, weight1: Tensor, weight2: Tensor, grad: Tensor, *needs: bool
) -> tuple[Tensor, ...]:
    run = _backward_ours if _ours(x) else _backward_around
    found = run(x, hidden, out, weight1, weight2, grad, needs)
    return tuple(x.new_empty(0) if g is None else g for g in found)


def _backward_ours(
    x: Tensor, hidden: Tensor, out: Tensor, weight1: Tensor, weight2: Tensor, grad: Tensor, needs: tuple[bool, ...]
) -> list[Tensor | None]:
    x, grad = (_laid_out(each, _format(x)) for each in (x, grad))
    bias = x.new_empty(x.shape[1])
    likes = (x, weight1, bias, weight2, bias)
    to = [torch.empty_like(like) if need else None for like, need in zip(likes, needs, strict=True)]
    torch.ops.dcaccel._residual_backward(x, hidden, out, weight1, weight2, grad, *to)
    return to


def _backward_around(
    x: Tensor, hidden: Tensor, out: Tensor, weight1: Tensor, weight2: Tensor, grad: Tensor, needs: tuple[bool, ...]
) -> list[Tensor | None]:
    """Our passes around torch's products; the batch in parts, to save memory, where little is done again for each."""
    need_x, need_weight1, need_bias1, need_weight2, need_bias2 = needs
    rows, layout = len(x), _inner_format(x)
    step = max(1, -(-rows // max(1, min(4, x.numel() // (8 * weight1.numel())))))
    g_x = torch.empty_like(x, memory_format=_format(x)) if need_x else None
    in_place = need_x and layout == _format(x)
    turned = weight1.flip(2, 3).transpose(0, 1) if need_x and _onednn(x) else None
    totals: dict[str, Tensor] = {}
    for start in range(0, max(1, rows), step):
        part = slice(start, start + step)
        grads, outs, xs = (_laid_out(each[part], layout) for each in (grad, out, x))
        g = g_x[part] if in_place else torch.empty_like(xs)
        _add(totals, "bias2", _gate(grads, outs, g))
        lower = need_x or need_weight1 or need_bias1
        g_h, g_weight2 = _product_gradients(g, hidden[part], weight2, lower, need_weight2)
        _add(totals, "weight2", g_weight2)
        if not lower:
            continue
        g_h = _laid_out(g_h, layout)
        _add(totals, "bias1", _gate(g_h, hidden[part], g_h))
        more, g_weight1 = _product_gradients(g_h, xs, weight1, need_x and turned is None, need_weight1)
        _add(totals, "weight1", g_weight1)
        if turned is not None:
            _pointwise_into.binary(g, g_h, turned, None, *_BINARY, None, [], "")
        elif need_x:
            g.add_(more)
        if need_x and not in_place:
            g_x[part].copy_(g)
    wanted = {"weight1": need_weight1, "bias1": need_bias1, "weight2": need_weight2, "bias2": need_bias2}
    found = [totals[name].to(x.dtype) if need else None for name, need in wanted.items()]
    for i, weight in ((0, weight1), (2, weight2)):
        found[i] = None if found[i] is None else _laid_out_like(weight, found[i])
    return [g_x, *found]


def _gate(grad: Tensor, result: Tensor, g: Tensor) -> Tensor:
    """Writes what passes the relu to g, which may be grad, and returns its sums over rows and pixels."""
    sums = grad.new_empty(grad.shape[1], dtype=torch.float64)
    torch.ops.dcaccel._residual_gate(grad, result, g, sums)
    return sums


def _add(totals: dict[str, Tensor], name: str, value: Tensor | None) -> None:
    if value is None:
        return
    if name in totals:  # half types: the sum rounds once more than the parts, not twice
        totals[name] = totals[name].float() + value if value.dtype in _TYPES[2:] else totals[name].add_(value)
    else:
        totals[name] = value


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight1, _, weight2, _ = inputs
    out, hidden = output
    ctx.mark_non_differentiable(hidden)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, hidden, out, weight1, weight2)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad[:5]
    if grad is None or not any(needs):
        return None, None, None, None, None
    found = _bwd(*ctx.saved_tensors, grad, *needs)
    return tuple(g if need else None for g, need in zip(found, needs, strict=True))


_bwd = define(
    "residual_block_bwd",
    "(Tensor x, Tensor hidden, Tensor out, Tensor weight1, Tensor weight2, Tensor grad, bool need_x, "
    "bool need_weight1, bool need_bias1, bool need_weight2, bool need_bias2) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=_reference_bwd,
    fake=_fake_bwd,
)
_block = define(
    "residual_block",
    "(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2) -> (Tensor out, Tensor hidden)",
    reference=_reference,
    fake=_fake,
    save=_save,
    backward=_backward,
)
for _schema in (
    "_residual_tail(Tensor(a!) y, Tensor? bias, Tensor? skip) -> ()",
    "_residual_gate(Tensor grad, Tensor result, Tensor(a!) g, Tensor(b!) sums) -> ()",
):
    torch.library.define(f"{NAMESPACE}::{_schema.partition('(')[0]}", _schema[_schema.index("(") :])
for _device in ("CPU", "CUDA"):  # the composition is Python, what it composes is not
    if not _native.reason(_device.lower()):
        torch.library.impl(f"{NAMESPACE}::residual_block", _device)(_forward)
        torch.library.impl(f"{NAMESPACE}::residual_block_bwd", _device)(_backward_native)


def residual_block(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Two layers with a skip around them, the tail (bias, skip, relu) in the same pass as the layer before it.

        out = relu(x + conv(relu(conv(x, weight1) + bias1), weight2) + bias2)

    conv is a 3 x 3 convolution of stride 1 that pads with zeros to the same size; for 2-d x it is a linear layer.

    Args:
        x: (N, C, H, W), contiguous or channels_last; or (N, C).
        weight1, weight2: (C, C, 3, 3); or (C, C), as torch.nn.Linear keeps them.
        bias1, bias2: (C,).

    Returns:
        The shape, type and memory format of x (contiguous when x is neither of the two formats).

    Types: float32, float64, bfloat16, float16; half types accumulate in float32. Autocast: as torch's convolution.
    Gradient: all arguments, first order; where the kernel convolves itself, the same bits at the same number of
        threads. Second order raises; use ``with ops.backend("reference")``.
    Cost: O(N C^2 H W) time. Kept for the gradient: x, the inner relu's result and out. Where the tiles of the kernel
        win (channels a multiple of 32, small images, see `_ours`) they need 0.48 to 0.8 times the products of a direct
        convolution that skips the padding. Working memory beside gradients: up to half of x (of float32) for
        sums of weights that are small beside it, else one tensor like x; and one or two MiB a thread.
    bfloat16: gradients by tiles round what they transform, which adds about 0.4 % to their error; eager's is several
        percent, since rounded results of relu fall on the other side of zero.
    Source: Chang, arXiv 2201.04727 (DCFAE's Res block); tiles: Lavin and Gray, arXiv 1509.09308.

    Raises:
        TypeError: an argument is not a tensor, or not of a floating type.
        ValueError: shapes, dtypes or devices disagree.

    >>> x, weight = torch.tensor([[1.0, -2.0]]), torch.eye(2)
    >>> residual_block(x, weight, torch.zeros(2), weight, torch.ones(2))
    tensor([[3., 0.]])
    """
    arguments = _autocast(x, weight1, bias1, weight2, bias2)
    _validate(arguments)
    return _block(*arguments)[0]


def _wrong(what: str, expected: str, got: object, advice: str, kind: type[Exception] = ValueError) -> Exception:
    return kind(f"residual_block: {what}: expected {expected}, got {got}; {advice}")


def _autocast(*arguments: Tensor) -> tuple[Tensor, ...]:
    """What autocast does to the arguments of a convolution; float64 and what is no tensor stay."""
    for name, x in zip(("x", "weight1", "bias1", "weight2", "bias2"), arguments, strict=True):
        if not isinstance(x, Tensor):
            raise _wrong(name, "a tensor", type(x).__name__, "pass a torch.Tensor", TypeError)
        if x.dtype not in _TYPES:
            raise _wrong(f"dtype of {name}", "a floating type", x.dtype, "convert it with .float()", TypeError)
    kind = arguments[0].device.type
    if not torch.is_autocast_enabled(kind):
        return arguments
    to = torch.get_autocast_dtype(kind)
    return tuple(x if x.dtype == torch.float64 else x.to(to) for x in arguments)


def _validate(arguments: tuple[Tensor, ...]) -> None:
    x, weight1, bias1, weight2, bias2 = arguments
    if x.dim() not in (2, 4):
        raise _wrong("shape of x", "(N, C, H, W) or (N, C)", tuple(x.shape), "reshape it")
    channels, around = x.shape[1], (3, 3) if x.dim() == 4 else ()
    if 0 in x.shape[1:]:
        raise _wrong("sizes of x", "C, H and W of at least 1", tuple(x.shape), "only the batch may be empty")
    for name, weight in (("weight1", weight1), ("weight2", weight2)):
        if weight.shape != (channels, channels, *around):
            want = f"{(channels, channels, *around)}, for x {tuple(x.shape)}"
            raise _wrong(f"shape of {name}", want, tuple(weight.shape), "the block keeps the number of channels")
    for name, bias in (("bias1", bias1), ("bias2", bias2)):
        if bias.shape != (channels,):
            raise _wrong(f"shape of {name}", f"({channels},)", tuple(bias.shape), "pass one bias per channel")
    if len({argument.device for argument in arguments}) > 1:
        got = ", ".join(str(argument.device) for argument in arguments)
        raise _wrong("devices of the arguments", "one device", got, "move them with .to(device)")
    if len({argument.dtype for argument in arguments}) > 1:
        got = ", ".join(str(argument.dtype) for argument in arguments)
        raise _wrong("dtypes of the arguments", "one dtype", got, "convert them with .to(dtype)")
