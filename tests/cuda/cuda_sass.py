"""What a compiled kernel costs, read from the machine code: instruction mix, loops, occupancy, bounds on speed.

Everything here is a bound derived from counts, not a measurement: instructions that can be issued, pipes that can be
kept busy, bytes that must move. Latencies, bank conflicts beyond the pessimistic count below, and clocks are not in it.
"""

import re
from collections import Counter
from dataclasses import dataclass

# Warp instructions a clock and multiprocessor (CUDA C++ Programming Guide, throughput of native instructions, / 32).
THROUGHPUT = {
    "75": {"fp32": 2, "fp64": 1 / 16, "int": 2, "mufu": 0.5, "smem": 1, "issue": 4},
    "80": {"fp32": 2, "fp64": 1, "int": 2, "mufu": 0.5, "smem": 1, "issue": 4},
    "86": {"fp32": 4, "fp64": 1 / 16, "int": 2, "mufu": 0.5, "smem": 1, "issue": 4},
    "89": {"fp32": 4, "fp64": 1 / 16, "int": 2, "mufu": 0.5, "smem": 1, "issue": 4},
    "90": {"fp32": 4, "fp64": 2, "int": 2, "mufu": 0.5, "smem": 1, "issue": 4},
    "100": {"fp32": 4, "fp64": 2, "int": 4, "mufu": 0.5, "smem": 1, "issue": 4},
    "120": {"fp32": 4, "fp64": 1 / 16, "int": 4, "mufu": 0.5, "smem": 1, "issue": 4},
}
# Of a multiprocessor: warps, blocks, bytes of shared memory; typed in from NVIDIA's compute capability table.
LIMITS = {
    "75": (32, 16, 64 << 10),
    "80": (64, 32, 164 << 10),
    "86": (48, 16, 100 << 10),
    "89": (48, 24, 100 << 10),
    "90": (64, 32, 228 << 10),
    "100": (64, 32, 228 << 10),
    "120": (48, 32, 100 << 10),
}
FP32 = {"FFMA", "FADD", "FMUL", "FMNMX", "FSEL", "FSETP", "FSET", "FFMA2", "FADD2", "FMUL2"}
FP64 = {"DFMA", "DADD", "DMUL", "DSETP"}
SHARED = {"LDS", "STS", "SHFL", "LDSM"}
CONTROL = {"BRA", "BSSY", "BSYNC", "EXIT", "WARPSYNC", "BAR", "NOP", "CALL", "RET", "DEPBAR", "LDGDEPBAR", "VOTE"}
MEMORY = {"LDG", "STG", "LDGSTS", "LD", "ST", "LDC", "LDCU", "ULDC", "LDL", "STL"}
FLOPS = {"FFMA": 2, "FADD": 1, "FMUL": 1, "DFMA": 2, "DADD": 1, "DMUL": 1}


@dataclass
class Instruction:
    opcode: str
    target: str = ""  # label of a branch

    @property
    def base(self):
        return self.opcode.split(".")[0]

    @property
    def kind(self):
        for name, group in (("fp32", FP32), ("fp64", FP64), ("smem", SHARED), ("control", CONTROL), ("memory", MEMORY)):
            if self.base in group:
                return name
        if self.base in ("MUFU", "I2F", "F2I", "F2F"):  # conversions share its pipe where they are not I2FP
            return "mufu"
        return "uniform" if self.base.startswith("U") else "int"

    @property
    def wavefronts(self):
        """Of shared memory, at worst: a 128-bit load takes four, whatever it broadcasts."""
        if self.kind != "smem":
            return 0
        return 4 if ".128" in self.opcode else 2 if ".64" in self.opcode else 1


def functions(text):
    """{mangled name: (instructions, {label: position})} of what nvdisasm prints."""
    out, current = {}, None
    for line in text.splitlines():
        if match := re.match(r"\.text\.(\S+):", line):
            current = out[match.group(1)] = ([], {})
        elif current and (match := re.match(r"(\.L_\S+):", line)):
            current[1][match.group(1)] = len(current[0])
        elif current and (match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*);", line)):
            target = re.search(r"`\((\.L_\S+?)\)", match.group(2))
            current[0].append(Instruction(match.group(1), target.group(1) if target else ""))
    return out


def loops(instructions, labels):
    """(first, last) of every loop, inner ones last."""
    found = set()
    for at, each in enumerate(instructions):
        start = labels.get(each.target, at + 1)
        if each.base == "BRA" and start < at:
            found.add((start, at))
    return sorted(found, key=lambda loop: loop[0] - loop[1])


def pieces(instructions, labels):
    """The innermost loops, and the straight pieces of code between branches and labels, as slices."""
    cuts = {0, len(instructions), *labels.values()}
    cuts |= {at + 1 for at, each in enumerate(instructions) if each.base in ("BRA", "EXIT", "RET")}
    edges = sorted(c for c in cuts if c <= len(instructions))
    return list(zip(edges, edges[1:], strict=False))


@dataclass
class Shape:
    """How often a thread goes through the parts of a pair kernel for one tile of columns."""

    pairs: int  # of a thread
    distance: int  # features of the distance, of each if there are two
    product: int  # features of the product
    fetched: int  # features copied to shared memory, all parts together
    flush_every: int = 8


def per_tile(instructions, labels, shape):
    """Instructions of one thread for one column tile: a Counter of kinds, wavefronts and flops.

    Loops are told by what is in them: a subtraction for every multiply-add is the distance loop, only multiply-adds the
    product loop, asynchronous copies the fetches, eight features a round of the block. Of the pair values there are several
    copies with a reciprocal a pair, one of which runs; the sums leave the registers once in a while. What is around a loop
    counts once, however many parts the features come in.
    """
    every = loops(instructions, labels)
    begin, end = every[0]  # the largest: over column tiles
    total = Counter()
    flush = [at for at in range(begin, end) if instructions[at].base == "SHFL"]
    reciprocals = sum(i.base == "MUFU" for i in instructions[begin : end + 1])
    copies = sum(any(i.base == "LDGSTS" for i in instructions[a : b + 1]) for a, b in every[1:] if b - a < 200)
    for first, last in pieces(instructions, labels):
        if first < begin or last > end + 1:
            continue
        part = instructions[first:last]
        inner = [(a, b) for a, b in every[1:] if a <= first and last <= b + 1 and b - a < 200]
        if flush and flush[0] <= last and first <= flush[-1]:
            times = 1 / shape.flush_every
        else:
            times = weight(part, inner, instructions, shape, reciprocals, copies)
        for each in part:
            total[each.kind] += times
            total["issue"] += times
            total["wavefronts"] += times * each.wavefronts
            total["flops"] += times * FLOPS.get(each.base, 0)
    return total


def inner_loop(instructions, labels):
    """Instructions of the innermost loop with the most multiply-adds of loaded numbers, once around."""
    every = loops(instructions, labels)
    inner = [(a, b) for a, b in every if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in every)]
    counts = []
    for first, last in inner:
        count = Counter()
        for each in instructions[first : last + 1]:
            count[each.kind] += 1
            count["issue"] += 1
            count["wavefronts"] += each.wavefronts
            count["flops"] += FLOPS.get(each.base, 0)
            count["loads"] += each.base == "LDG"
            count["products"] += each.base in ("FFMA", "DFMA")
        counts.append(count)
    return max(counts, key=lambda count: (min(count["loads"], count["products"]), count["loads"]))


def weight(part, inner, instructions, shape, reciprocals, copies):
    bases = Counter(i.base for i in part)
    if inner:
        loop = Counter(i.base for i in instructions[inner[0][0] : inner[0][1] + 1])
        adds, fmas = loop["FADD"] + loop["DADD"], loop["FFMA"] + loop["DFMA"]
        if loop["LDGSTS"]:
            return shape.fetched / 8 / copies
        if fmas >= shape.pairs:  # a loop over features; how many it takes at a time is in its size
            return (shape.distance if adds else shape.product) / (fmas / shape.pairs)
    if 2 * bases["FSEL"] > len(part) and not bases["SHFL"]:
        return 0.0  # a mask, at the border only
    if bases["MUFU"]:
        return shape.pairs / reciprocals
    remainder = bases["FFMA"] + bases["DFMA"] == shape.pairs  # of an unrolled loop, run for an odd feature
    return 0.0 if remainder else 1.0


def bounds(count, arch):
    """Clocks that a multiprocessor needs at least for one warp and tile, by what limits it."""
    rate = THROUGHPUT[arch]
    out = {kind: count[kind] / rate[kind] for kind in ("issue", "fp32", "fp64", "int", "mufu")}
    return out | {"smem": count["wavefronts"] / rate["smem"]}


def share_of_peak(count, arch, kind="fp32", without=("smem",)):
    """Flops executed over those that multiply-adds alone would do in the time of the tightest bound."""
    clocks = max(v for k, v in bounds(count, arch).items() if k not in without)
    return count["flops"] / (clocks * 2 * THROUGHPUT[arch][kind])


def occupancy(arch, registers, shared_bytes, threads):
    """(blocks of a multiprocessor, share of its warps)."""
    warps, most_blocks, shared = LIMITS[arch]
    own = -(-threads // 32)
    by_registers = 65536 // (-(-registers * 32 // 256) * 256) // own
    by_shared = shared // (shared_bytes + (1024 if int(arch) >= 80 else 0)) if shared_bytes else most_blocks
    blocks = min(by_registers, by_shared, most_blocks, warps // own)
    return blocks, blocks * own / warps
