"""What the kernels may cost: budget.json, written by `python tests/cuda/cuda_budget.py --write` and held by a test.

For every kernel that does the work, and every architecture: registers, shared memory and spills as ptxas reports them,
the blocks that fit on a multiprocessor, and, where nvdisasm is found, the share of the peak of multiply-adds that the
instructions leave room for (cuda_sass.py). `--estimate` prints lower bounds on times from them. No GPU is involved.
"""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import cuda_sass
from cuda_running import HERE, built, nvcc, ptx_of, run

BUDGET = HERE / "budget.json"
# nvcc makes the same PTX of our sources for these, and it is what takes the time; a test compares them.
PTX_OF = {"75": "75", "80": "80", "86": "80", "89": "80", "90": "80", "100": "100", "120": "100"}
ARCHITECTURES = tuple(PTX_OF)
FLAGS = ["-O3", "-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
# Vendor figures: multiprocessors, boost clock in Hz.
DEVICES = {"A100 SXM": ("80", 108, 1.41e9), "H100 SXM": ("90", 132, 1.755e9)}
MORE_REGISTERS, LESS_SHARE = 8, 0.03  # how far a kernel may move from its budget


def nvdisasm():
    """On PATH, or from the wheel nvidia-cuda-nvdisasm; None without."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(p) / "cu13" / "bin" / "nvdisasm" for p in (spec.submodule_search_locations if spec else ())]
    return shutil.which("nvdisasm") or next((str(p) for p in places if p.exists()), None)


def compiled(kernel, arch):
    """The cubin, and what ptxas said; warnings and spills are errors."""

    code = ptx_of(kernel.source, PTX_OF[arch])

    def steps(place):
        return [[nvcc(), *FLAGS, f"-arch=sm_{arch}", "-cubin", "-o", place / f"{kernel.name}.cubin", code]]

    cubin = built(f"{kernel.name}.cubin", steps, [])
    return cubin, (cubin.parent / "messages.txt").read_text()


def resources(messages):
    """{mangled name: (registers, bytes of shared memory, bytes spilled)}."""
    out = {}
    for part in messages.split("Compiling entry function ")[1:]:
        registers, shared = re.search(r"Used (\d+) registers", part), re.search(r"(\d+) bytes smem", part)
        spills = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
        out[part.split("'")[1]] = (int(registers[1]), int(shared[1]) if shared else 0, spills)
    return out


def costs(kernel, arch):
    """{hot kernel: {registers, shared_bytes, blocks, occupancy, share, clocks}}; share and clocks need nvdisasm."""
    cubin, messages = compiled(kernel, arch)
    found, code = resources(messages), {}
    if nvdisasm():
        code = cuda_sass.functions(run([nvdisasm(), "-c", cubin]).stdout)
    out = {}
    for hot in kernel.hot:
        name = next(n for n in found if hot.mangled in n)
        registers, shared, spills = found[name]
        blocks, occupied = cuda_sass.occupancy(arch, registers, shared, hot.threads)
        row = {"registers": registers, "shared_bytes": shared, "spilled_bytes": spills}
        row |= {"blocks": blocks, "occupancy": round(occupied, 3)}
        if name in code:
            count = cuda_sass.per_tile(*code[name], hot.shape) if hot.shape else cuda_sass.inner_loop(*code[name])
            clocks = cuda_sass.bounds(count, arch)
            row["share"] = round(cuda_sass.share_of_peak(count, arch, hot.pipe), 3)
            row["limit"] = max(clocks, key=clocks.get)
            row["instructions"] = {k: round(count[k]) for k in ("issue", "fp32", "fp64", "int", "smem", "mufu")}
            if hot.shape:
                row["clocks_per_pair"] = round(max(clocks.values()) / (32 * hot.shape.pairs), 4)
        out[hot.name] = row
    return out


def complaints(now, before):
    """What went over budget."""
    out = []
    for name, row in now.items():
        if name not in before:
            out.append(f"{name}: not in budget.json; run cuda_budget.py --write")
            continue
        old = before[name]
        if row["spilled_bytes"]:
            out.append(f"{name}: spills {row['spilled_bytes']} bytes")
        if row["registers"] > old["registers"] + MORE_REGISTERS or row["blocks"] < old["blocks"]:
            out.append(
                f"{name}: {row['registers']} registers, {row['blocks']} blocks; had {old['registers']}, {old['blocks']}"
            )
        if row["shared_bytes"] > old["shared_bytes"]:
            out.append(f"{name}: {row['shared_bytes']} bytes of shared memory; had {old['shared_bytes']}")
        if row.get("share", 1) < old.get("share", 0) - LESS_SHARE:
            out.append(f"{name}: {row['share']} of the multiply-add peak; had {old['share']}")
    return out


def estimate(table):
    """Lower bounds on the time of one pass over all pairs; estimates from counts, nothing was timed."""
    for device, (arch, processors, clock) in DEVICES.items():
        for name, row in table["wasserstein_similarity"][arch].items():
            for n in (1024, 8192, 65536):
                seconds = n * n * row["clocks_per_pair"] / (processors * clock)
                print(f"{device}  {name:24} N={n:<6} >= {seconds * 1e3:8.3f} ms (estimate, {row['limit']}-bound)")


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "ops"))
    from cuda_kernels import KERNELS

    if "--write" in sys.argv:
        if not nvdisasm():
            sys.exit("cuda_budget: nvdisasm is missing; pip install nvidia-cuda-nvdisasm, or a CUDA toolkit")
        rows = {k.name: {arch: costs(k, arch) for arch in ARCHITECTURES} for k in KERNELS}
        BUDGET.write_text(re.sub(r"\n {7,}|\n {6}(?=})", " ", json.dumps(rows, indent=2)) + "\n")
    if "--estimate" in sys.argv:
        estimate(json.loads(BUDGET.read_text()))
