"""residual_block beside eager PyTorch and beside its bare convolutions, at the shapes of DCFAE; one JSON to stdout.

    python bench/residual_block.py --threads 2 --dtype float32 --rounds 15 > residual_block.json

`dcaccel bench kernels` is for losses over all pairs of a batch; this operator has no rows to sweep but four shapes.
Contestants take turns, so that a drifting machine hits all alike; ratios are medians of ratios within a round. "bare" is
both convolutions forward and the gradients of their inputs and weights, without bias, relu and skip: less than the block.

Peak activation memory of a step is the most that exists at any moment because of the step beyond x, the parameters and
the gradients that the step returns: results, what is kept for the backward, temporaries, workspaces. `peak_bytes` is
that, `peak_bytes_with_gradients` counts these gradients too from when their memory is taken, `kept_bytes` is what is
left between forward and backward, the result included. Torch's allocator says all of it, oneDNN's scratchpads and
reordered weights too (a counter around malloc gives the same bytes for eager and for ours).
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import time

import torch
from torch._C._profiler import _EventType
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
    """Name -> a training step of it; and name -> what `memory` takes."""
    found, weighed = {}, {}
    for name, layout in FORMATS.items():
        arguments, grad = inputs(batch, channels, size, dtype, layout)
        found[f"bare {name}"] = lambda a=arguments, g=grad: bare(a, g)
        found[f"eager {name}"] = lambda a=arguments, g=grad: step(eager, a, g)
        found[f"ours {name}"] = lambda a=arguments, g=grad: step(ops.residual_block, a, g)
        weighed |= {f"eager {name}": (eager, arguments, grad), f"ours {name}": (ops.residual_block, arguments, grad)}
    return found, weighed


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


def memory(call, arguments, grad):
    """`kept_bytes`, `peak_bytes` and `peak_bytes_with_gradients` of a step."""
    leaves = [x.detach().requires_grad_() for x in arguments]
    step(call, arguments, grad)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as forward:
        out = call(*leaves)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as backward:
        gradients = torch.autograd.grad(out, leaves, grad)
    before, after = allocations(forward), allocations(backward)
    kept = sum(size for _, size in before)
    last = {pointer: i for i, (pointer, size) in enumerate(after) if size > 0}
    returned = {last[g.data_ptr()] for g in gradients}
    beside = [size for i, (_, size) in enumerate(after) if i not in returned]
    most = [max(highest(s for _, s in before), kept + highest(sizes)) for sizes in (beside, [s for _, s in after])]
    return {"kept_bytes": kept, "peak_bytes": most[0], "peak_bytes_with_gradients": most[1]}


def allocations(events):
    """(address, bytes) in order; negative bytes where memory was given back."""
    found, todo = [], list(events.profiler.kineto_results.experimental_event_tree())
    while todo:
        event = todo.pop()
        todo += event.children
        kind, about = event.typed
        if kind == _EventType.Allocation:
            found.append((event.start_time_ns, about.ptr, about.alloc_size))
    return [(pointer, size) for _, pointer, size in sorted(found, key=lambda each: each[0])]


def highest(sizes):
    return max(itertools.accumulate(sizes), default=0)


def ratio(times, name, group):
    """Median over rounds of `name` by the fastest layout of a group."""
    best = min((f"{group} {layout}" for layout in FORMATS), key=lambda key: statistics.median(times[key]))
    return round(statistics.median(a / b for a, b in zip(times[name], times[best], strict=True)), 3)


def measure(batch, channels, size, dtype, rounds):
    calls, weighed = contestants(batch, channels, size, dtype)
    times = interleaved(calls, rounds)
    entry = {"channels": channels, "size": size}
    entry["ms"] = {name: [round(value, 2) for value in statistics.quantiles(each, n=4)] for name, each in times.items()}
    entry["memory"] = {name: memory(*arguments) for name, arguments in weighed.items()}
    for layout in FORMATS:
        mine = f"ours {layout}"
        entry[f"{mine} by best"] = {g: ratio(times, mine, g) for g in ("bare", "eager")}
        for key, value in entry["memory"][mine].items():
            best = min(entry["memory"][f"eager {other}"][key] for other in FORMATS)
            entry[f"{mine} by best"][key] = round(value / best, 3)
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
