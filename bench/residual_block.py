"""residual_block beside eager PyTorch and beside its bare convolutions, at the shapes of DCFAE; one JSON to stdout.

    python bench/residual_block.py --threads 2 --dtype float32 --rounds 15 > residual_block.json

`dcaccel bench kernels` is for losses over all pairs of a batch; this operator has no rows to sweep but four shapes.
Contestants take turns, so that a drifting machine hits all alike; ratios are medians of ratios within a round. "bare" is
both convolutions forward and the gradients of their inputs and weights, without bias, relu and skip: less than the block.
"""

import argparse
import json
import platform
import statistics
import sys
import time

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from deepclust_accel import ops

SHAPES = ((64, 16), (128, 8), (256, 4), (512, 2))
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
PLAIN = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)


def eager(x, weight1, bias1, weight2, bias2):
    hidden = torch.relu(F.conv2d(x, weight1, bias1, padding=1))
    return torch.relu(x + F.conv2d(hidden, weight2, bias2, padding=1))


def step(call, arguments, grad):
    leaves = [x.detach().requires_grad_() for x in arguments]
    return torch.autograd.grad(call(*leaves), leaves, grad)


def bare(arguments, grad):
    x, weight1, _, weight2, _ = arguments
    hidden = torch.ops.aten.convolution(x, weight1, None, *PLAIN)
    torch.ops.aten.convolution(hidden, weight2, None, *PLAIN)
    for of, weight in ((hidden, weight2), (x, weight1)):
        torch.ops.aten.convolution_backward(grad, of, weight, None, *PLAIN, [True, True, False])


def inputs(batch, channels, size, dtype, layout):
    g = torch.Generator().manual_seed(0)
    images = [torch.randn(batch, channels, size, size, generator=g).to(dtype) for _ in range(2)]
    x, grad = (image.contiguous(memory_format=layout) for image in images)
    weight = (torch.randn(channels, channels, 3, 3, generator=g) * (9 * channels) ** -0.5).to(dtype)
    bias = torch.randn(channels, generator=g).to(dtype)
    return (x, weight, bias, weight.clone(), bias.clone()), grad


def contestants(batch, channels, size, dtype):
    """Name -> a training step of it."""
    found = {}
    for name, layout in FORMATS.items():
        arguments, grad = inputs(batch, channels, size, dtype, layout)
        found[f"bare {name}"] = lambda a=arguments, g=grad: bare(a, g)
        found[f"eager {name}"] = lambda a=arguments, g=grad: step(eager, a, g)
        found[f"ours {name}"] = lambda a=arguments, g=grad: step(ops.residual_block, a, g)
    return found


def interleaved(calls, rounds):
    """Name -> milliseconds, one per round."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def peak(call):
    """Bytes that torch's allocator holds at most during a call above what it held before: results, scratch, gradients."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as events:
        call()
    held = most = 0
    found = [event for event in events.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(found, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def ratio(times, name, group):
    """Median over rounds of `name` by the fastest layout of a group."""
    best = min((f"{group} {layout}" for layout in FORMATS), key=lambda key: statistics.median(times[key]))
    return round(statistics.median(a / b for a, b in zip(times[name], times[best], strict=True)), 3)


def measure(batch, channels, size, dtype, rounds):
    calls = contestants(batch, channels, size, dtype)
    times = interleaved(calls, rounds)
    entry = {"channels": channels, "size": size, "ms": {}, "peak_bytes": {}, "growth_bytes": {}}
    doubled = contestants(2 * batch, channels, size, dtype)
    for name, each in times.items():
        entry["ms"][name] = [round(value, 2) for value in statistics.quantiles(each, n=4)]
        if not name.startswith("bare"):
            entry["peak_bytes"][name] = peak(calls[name])
            entry["growth_bytes"][name] = peak(doubled[name]) - entry["peak_bytes"][name]
    for layout in FORMATS:
        entry[f"ours {layout} by best"] = {g: ratio(times, f"ours {layout}", g) for g in ("bare", "eager")}
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--shapes", type=int, nargs="*", default=range(len(SHAPES)), help="which of the four")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = []
    for index in options.shapes:
        entry = measure(options.batch, *SHAPES[index], getattr(torch, options.dtype), options.rounds)
        table.append(entry)
        print({key: value for key, value in entry.items() if "by best" in key}, SHAPES[index], file=sys.stderr)
    about = {"torch": torch.__version__, "machine": platform.processor(), "isa": ops.instruction_set()}
    json.dump({"settings": vars(options) | {"shapes": list(options.shapes)}, **about, "results": table}, sys.stdout)


if __name__ == "__main__":
    main()
