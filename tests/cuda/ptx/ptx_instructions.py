"""One PTX instruction as one line of C++; `translate` finds the function for its opcode."""

import re

TYPES = {
    **{f"{sign}{n}": f"{'u' if sign in 'ub' else ''}int{n}_t" for sign in "usb" for n in (8, 16, 32, 64)},
    "f32": "float",
    "f64": "double",
    "pred": "bool",
}
SPECIAL = {
    **{f"%tid.{c}": f"threadIdx.{c}" for c in "xyz"},
    **{f"%ntid.{c}": f"blockDim.{c}" for c in "xyz"},
    **{f"%ctaid.{c}": f"blockIdx.{c}" for c in "xyz"},
    **{f"%nctaid.{c}": f"gridDim.{c}" for c in "xyz"},
    "%laneid": "dcemu::T->lane",
    "%warpid": "(dcemu::T->number / 32)",
    "%lanemask_lt": "((1u << dcemu::T->lane) - 1)",
}
FLOATS = ("f32", "f64")  # read and written by functions that are no templates: there are thousands of calls to resolve
ROUND = {"rni": "std::nearbyint", "rzi": "std::trunc", "rmi": "std::floor", "rpi": "std::ceil"}


def width(kind):
    return 1 if kind == "pred" else int(kind[1:])


def variable(register):
    return register.replace("%", "r_").replace("$", "_")


def split(text):
    """Operands, separated by the commas outside of braces and brackets."""
    out, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "{[") - (letter in "}]")
        if letter == "," and not depth:
            out.append(text[start:i].strip())
            start = i + 1
    return [*out, text[start:].strip()] if text[start:].strip() else out


class Instruction:
    """An instruction taken apart: `name`, `parts` after the dots, `kind` (the last of them), operands."""

    def __init__(self, entry, text):
        self.entry, self.text = entry, text
        opcode, _, rest = text.partition(" ")
        self.name, *self.parts = opcode.split(".")
        self.kind = self.parts[-1] if self.parts else ""
        self.operands = split(rest)

    def fail(self, what):
        raise SystemExit(f"ptx2cpp: {what}: {self.text}")

    def has(self, part):
        return part in self.parts

    def raw(self, operand):
        """The bits of an operand."""
        operand = operand.strip()
        if operand in SPECIAL:
            return SPECIAL[operand]
        if operand in self.entry.registers:
            return variable(operand)
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", operand):
            return f"0x{operand[2:]}u"
        if re.fullmatch(r"0[dD][0-9a-fA-F]{16}", operand):
            return f"0x{operand[2:]}ull"
        if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)U?", operand):
            return operand.rstrip("U") + ("ull" if operand.startswith("0x") else "ll")
        if operand in self.entry.shared:
            return str(self.entry.shared[operand])
        if operand in self.entry.dynamic:
            return "dynamic"
        if operand in self.entry.constants:
            return f"(uint64_t)(uintptr_t){self.entry.constants[operand]}"
        if operand and operand == self.entry.local_name:
            return "(uint64_t)(uintptr_t)local"
        return self.fail(f"unknown operand {operand}")

    def value(self, index, kind=None):
        """Operand number `index` as a value of its type."""
        return self.read(self.operands[index], kind or self.kind)

    def read(self, operand, kind):
        operand = operand.strip()
        if kind == "pred":
            return "!" + self.raw(operand[1:]) if operand.startswith("!") else f"(bool)({self.raw(operand)})"
        if kind in FLOATS:
            return f"{kind}({self.raw(operand)})"
        return f"({TYPES[kind]})({self.raw(operand)})"

    def assign(self, operand, kind, expression):
        operand = operand.strip()
        if operand == "_":
            return f"(void)({expression});"
        if kind == "pred":
            return f"{variable(operand)} = {expression};"
        if kind in FLOATS:
            return f"{variable(operand)} = bits_of_{kind}({expression});"
        bits = width(self.entry.registers[operand])
        return f"{variable(operand)} = (uint{bits}_t)({TYPES[kind]})({expression});"

    def result(self, expression, kind=None):
        return self.assign(self.operands[0], kind or self.kind, expression)

    def vector(self, operand):
        return [x.strip() for x in operand.strip("{} ").split(",")] if operand.startswith("{") else None

    def address(self, operand, space, bytes_):
        """A C++ pointer; shared and global ones are checked at run time."""
        match = re.match(r"\[ *([%\w$.]+) *(?:\+ *(-?\w+))? *\]", operand)
        base, offset = match.group(1), match.group(2) or "0"
        if space == "param":
            return f"(params + {self.entry.params[base][0]} + {offset})"
        where = f"{self.raw(base)} + {offset}"
        if space == "local":
            return f"((unsigned char*)(uintptr_t)({where}))"
        note = f'"{self.text}"'
        if space == "shared":
            return f"shared_at(shared, (uint32_t)({where}), {bytes_}, shared_size, {note})"
        return f"global_at((uint64_t)({where}), {bytes_}, {note})"


def branch(i):
    return f"goto {i.operands[0].replace('$', '_')};"


def leave(i):
    return "return;"


def barrier(i):
    if i.parts[0] == "warp":
        return f"__syncwarp({i.value(-1, 'u32')});"
    return "__syncthreads();"


def fence(i):
    return "__threadfence();"


def memory(i):
    """ld and st, of one register or a vector."""
    space = next((p for p in i.parts if p in ("global", "shared", "param", "local", "const")), "global")
    count = next((int(p[1]) for p in i.parts if re.fullmatch(r"v\d", p)), 1)
    store, kind = i.name == "st", TYPES[i.kind]
    where = i.address(i.operands[0 if store else 1], space, count * width(i.kind) // 8)
    operand = i.operands[1 if store else 0]
    registers = i.vector(operand) or [operand]
    if store:
        writes = " ".join(f"to[{n}] = {i.read(r, i.kind)};" for n, r in enumerate(registers))
        return f"{{ auto* to = ({kind}*){where}; {writes} }}"
    reads = " ".join(i.assign(r, extended(i, r), f"from[{n}]") for n, r in enumerate(registers))
    return f"{{ {kind} from[{count}]; std::memcpy(from, {where}, sizeof from); {reads} }}"


def extended(i, register):
    """The type a load fills a register with, which may be wider than what is loaded."""
    wide = width(i.entry.registers.get(register, i.kind))
    if i.kind[0] == "f" or width(i.kind) >= wide:
        return i.kind
    return i.kind[0].replace("b", "u") + str(wide)


def convert_address(i):
    if i.parts[-2] == "shared":
        return i.result(f"(uint64_t)(uintptr_t)shared + {i.raw(i.operands[1])}", "u64")
    return i.result(i.raw(i.operands[1]), "u64")


def move(i):
    to, sources = i.vector(i.operands[0]), i.vector(i.operands[1])
    if to:
        bits = width(i.kind) // len(to)
        parts = " ".join(i.assign(r, f"u{bits}", f"x >> {bits * n}") for n, r in enumerate(to) if r != "_")
        return f"{{ uint64_t x = {i.value(1)}; {parts} }}"
    if sources:
        bits = width(i.kind) // len(sources)
        return i.result(" | ".join(f"(uint64_t){i.read(r, f'u{bits}')} << {bits * n}" for n, r in enumerate(sources)))
    return i.result(i.value(1))


def arithmetic(i):
    kind = i.kind
    if kind[0] == "f":
        return float_arithmetic(i)
    if i.name in ("mul", "mad") and (i.has("wide") or i.has("hi")):
        return wide_arithmetic(i)
    if i.name in ("add", "sub", "mul", "mad"):
        kind = "u" + kind[1:]  # wraps around, which is not defined for signed types
    values = [i.value(n, kind) for n in range(1, len(i.operands))]
    if i.name in ("abs", "neg"):
        return i.result(f"std::abs({values[0]})" if i.name == "abs" else f"-{values[0]}", kind)
    if i.name in ("min", "max"):
        return i.result(f"std::{i.name}({values[0]}, {values[1]})", kind)
    sign = {"add": "+", "sub": "-", "mul": "*", "mad": "*", "div": "/", "rem": "%"}[i.name]
    return i.result(f"{values[0]} {sign} {values[1]}" + (f" + {values[2]}" if i.name == "mad" else ""), kind)


def float_arithmetic(i):
    values = [i.value(n) for n in range(1, len(i.operands))]
    if i.name in ("fma", "mad"):
        expression = f"__builtin_fma{'f' if i.kind == 'f32' else ''}({', '.join(values)})"
    elif i.name in ("min", "max"):
        expression = f"std::f{i.name}({', '.join(values)})"
        if i.has("NaN"):
            a, b = values
            expression = f"({a} != {a} ? {a} : {b} != {b} ? {b} : {expression})"
    elif i.name in ("abs", "neg"):
        expression = f"std::fabs({values[0]})" if i.name == "abs" else f"-{values[0]}"
    else:
        expression = f"{values[0]} {dict(add='+', sub='-', mul='*', div='/')[i.name]} {values[1]}"
    return i.result(f"std::fmin(std::fmax({expression}, 0), 1)" if i.has("sat") else expression)


def wide_arithmetic(i):
    bits, sign = width(i.kind), i.kind[0]
    if i.has("wide"):
        kind = f"{sign}{2 * bits}"
        product = f"({TYPES[kind]}){i.value(1)} * ({TYPES[kind]}){i.value(2)}"
        return i.result(product + (f" + {i.value(3, kind)}" if i.name == "mad" else ""), kind)
    big = "__int128" if sign == "s" else "unsigned __int128"
    high = f"({TYPES[i.kind]})((({big}){i.value(1)} * ({big}){i.value(2)}) >> {bits})"
    return i.result(high + (f" + {i.value(3)}" if i.name == "mad" else ""))


def logic(i):
    if i.name == "not":
        return i.result(("!" if i.kind == "pred" else "~") + i.value(1))
    return i.result(f"{i.value(1)} {dict(zip(('and', 'or', 'xor'), '&|^', strict=True))[i.name]} {i.value(2)}")


def shift(i):
    by, bits = i.value(2, "u32"), width(i.kind)
    if i.name == "shl":
        return i.result(f"{by} >= {bits} ? 0 : {i.value(1)} << {by}")
    if i.kind[0] == "s":
        return i.result(f"{i.value(1)} >> std::min<unsigned>({by}, {bits - 1})")
    return i.result(f"{by} >= {bits} ? 0 : {i.value(1)} >> {by}")


def bit_operation(i):
    bits = width(i.kind)
    expression = {
        "popc": lambda: f"__builtin_popcountll({i.value(1)})",
        "clz": lambda: f"({i.value(1)} ? __builtin_clzll((uint64_t){i.value(1)}) - {64 - bits} : {bits})",
        "brev": lambda: f"reversed_bits({i.value(1)})",
        "prmt": lambda: f"permuted({i.value(1)}, {i.value(2)}, {i.value(3)})",
        "lop3": lambda: f"looked_up({i.value(1)}, {i.value(2)}, {i.value(3)}, {i.operands[4]})",
        "shf": lambda: f"funnel({i.value(1)}, {i.value(2)}, {i.value(3)}, {int(i.has('l'))}, {int(i.has('clamp'))})",
        "bfi": lambda: f"inserted({i.value(1)}, {i.value(2)}, {i.value(3, 'u32')}, {i.value(4, 'u32')})",
        "bfe": lambda: f"bit_field({i.value(1)}, {i.value(2, 'u32')}, {i.value(3, 'u32')})",
    }[i.name]()
    return i.result(expression, "u32" if i.name in ("popc", "clz") else None)


def select(i):
    return i.result(f"{i.read(i.operands[3], 'pred')} ? {i.value(1)} : {i.value(2)}")


COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
COMPARE |= {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
OPPOSITE = {"equ": "ne", "neu": "eq", "ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}  # true if one is NaN


def compare(i):
    a, b, relation = i.value(1), i.value(2), i.parts[0]
    if relation in COMPARE:
        test = f"{a} {COMPARE[relation]} {b}"
        if relation == "ne" and i.kind[0] == "f":  # false if one is NaN
            test = f"({a} < {b} || {a} > {b})"
    elif relation in OPPOSITE:
        opposite = f"({a} < {b} || {a} > {b})" if relation == "equ" else f"({a} {COMPARE[OPPOSITE[relation]]} {b})"
        test = f"!{opposite}"
    else:
        test = f"{'' if relation == 'nan' else '!'}(std::isnan({a}) || std::isnan({b}))"
    combine = {"and": "&&", "or": "||", "xor": "!="}.get(i.parts[1])
    more = f" {combine} z" if combine else ""
    targets = [variable(t.strip()) for t in i.operands[0].split("|")]
    line = f"{{ const bool c = {test}; " + (f"const bool z = {i.value(3, 'pred')}; " if combine else "")
    line += f"{targets[0]} = c{more}; "
    return line + (f"{targets[1]} = !c{more}; }}" if len(targets) > 1 else "}")


def convert(i):
    to, source = i.parts[-2:]
    expression, mode = i.value(1, source), next((ROUND[p] for p in i.parts if p in ROUND), None)
    if source[0] == "f" and to[0] != "f":
        expression = f"to_integer<{TYPES[to]}>({mode or 'std::trunc'}({expression}))"
    elif source[0] == "f" and mode:
        expression = f"{mode}({expression})"
    if i.has("sat") and to[0] == "f":
        expression = f"std::fmin(std::fmax({expression}, 0), 1)"
    wide = width(i.entry.registers[i.operands[0]])
    return i.result(f"({TYPES[to]})({expression})", to if to[0] == "f" or width(to) >= wide else f"{to[0]}{wide}")


def function(i):
    name = {"rsqrt": "1 / std::sqrt", "rcp": "1 / ", "ex2": "std::exp2", "lg2": "std::log2"}.get(
        i.name, f"std::{i.name}"
    )
    one = "(float)" if i.kind == "f32" else ""
    return i.result(f"{one}{name}({i.value(1)})")


def shuffle(i):
    to, _, found = i.operands[0].partition("|")
    numbers = f"{i.value(1)}, {i.value(2, 'u32')}, {i.value(3, 'u32')}, {i.value(4, 'u32')}"
    line = f"{{ bool p; const uint32_t x = shuffled('{i.parts[1][0]}', {numbers}, p); {i.assign(to, 'u32', 'x')} "
    return line + (f"{variable(found.strip())} = p; }}" if found else "}")


def vote(i):
    mask, p, mode = i.value(2, "u32"), i.read(i.operands[1], "pred"), i.parts[1]
    if mode == "ballot":
        return i.result(f"__ballot_sync({mask}, {p})", "u32")
    return f"{variable(i.operands[0])} = " + (
        f"uniform({mask}, {p});" if mode == "uni" else f"__{mode}_sync({mask}, {p});"
    )


def warp_reduce(i):
    op = {"add": "kReduceAdd", "min": "kReduceMin", "max": "kReduceMax"}.get(i.parts[1]) or i.fail("unknown reduction")
    return i.result(f"dcemu::collective(dcemu::{op}, {i.value(2, 'u32')}, (uint64_t)(int64_t){i.value(1)})")


def match(i):
    return i.result(f"__match_any_sync({i.value(2, 'u32')}, {i.value(1, 'u32')})", "u32")


def atomic(i):
    first = int(i.name == "atom")
    space = "shared" if i.has("shared") else "global"
    where, kind = i.address(i.operands[first], space, width(i.kind) // 8), TYPES[i.kind]
    formula = {
        **{"add": "o + b", "min": "std::min(o, b)", "max": "std::max(o, b)", "exch": "b", "cas": "o == b ? c : o"},
        **{"and": "o & b", "or": "o | b", "xor": "o ^ b"},
    }
    name = next((p for p in i.parts if p in formula), None) or i.fail("unknown atomic operation")
    third = i.value(first + 2) if name == "cas" else "0"
    line = f"{{ {kind} b = {i.value(first + 1)}, c = {third}; (void)c; "
    line += f"{kind} x = dcemu::atomically(({kind}*){where}, [=]({kind} o) {{ return ({kind})({formula[name]}); }}); "
    return line + (i.result("x") if first else "(void)x;") + " }"


def asynchronous_copy(i):
    if i.parts[0] != "async":
        i.fail("unknown copy")
    if i.has("commit_group"):
        return "__pipeline_commit();"
    if i.has("wait_group"):
        return f"__pipeline_wait_prior({i.operands[0]});"
    if i.has("wait_all"):
        return "{ __pipeline_commit(); __pipeline_wait_prior(0); }"
    count = i.operands[2]
    read = i.value(3, "u32") if len(i.operands) > 3 else count
    to = i.address(i.operands[0], "shared", count)
    source = i.address(i.operands[1], "global", f"std::min<int>({count}, {read})")
    return f"__pipeline_memcpy_async({to}, {source}, {count}, {count} - std::min<int>({count}, {read}));"


OPCODES = {
    **dict.fromkeys(("bra",), branch),
    **dict.fromkeys(("ret", "exit"), leave),
    **dict.fromkeys(("bar", "barrier"), barrier),
    **dict.fromkeys(("membar", "fence"), fence),
    **dict.fromkeys(("ld", "ldu", "st"), memory),
    **dict.fromkeys(("add", "sub", "mul", "mad", "fma", "div", "rem", "min", "max", "abs", "neg"), arithmetic),
    **dict.fromkeys(("and", "or", "xor", "not"), logic),
    **dict.fromkeys(("shl", "shr"), shift),
    **dict.fromkeys(("popc", "clz", "brev", "prmt", "lop3", "shf", "bfe", "bfi"), bit_operation),
    **dict.fromkeys(("sqrt", "rsqrt", "rcp", "ex2", "lg2", "sin", "cos", "tanh"), function),
    **{"cvta": convert_address, "mov": move, "selp": select, "setp": compare, "cvt": convert, "shfl": shuffle},
    **{"vote": vote, "redux": warp_reduce, "match": match, "atom": atomic, "red": atomic, "cp": asynchronous_copy},
}


def translate(entry, text):
    """The C++ line for an instruction, its guard included."""
    guard = ""
    if found := re.match(r"@(!?)(%\w+) (.*)$", text):
        guard, text = f"if ({found.group(1)}{variable(found.group(2))}) ", found.group(3)
    instruction = Instruction(entry, text)
    if instruction.name not in OPCODES:
        instruction.fail("unknown instruction")
    return f"{guard}{{ {OPCODES[instruction.name](instruction)} }}"
