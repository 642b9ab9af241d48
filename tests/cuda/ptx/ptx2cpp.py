"""Translates nvcc's PTX into C++ that runs on the fibers of the emulation: ptx2cpp.py IN.ptx OUT.cpp

Every register becomes a local variable of its width, every label a label, every instruction a line; ptx_rt.h has what
the lines call. What is not known is an error at translation, never a guess.
"""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from ptx_instructions import translate, variable, width  # noqa: E402


@dataclass
class Entry:
    """A kernel: its parameters, registers and shared variables, and the lines made of its body."""

    name: str
    dynamic: list[str]  # names of dynamic shared arrays
    params: dict = field(default_factory=dict)  # name -> (offset, size)
    params_size: int = 0
    registers: dict = field(default_factory=dict)  # name -> type
    shared: dict = field(default_factory=dict)  # name -> offset
    shared_size: int = 0
    local_name: str = ""
    local_size: int = 0
    constants: dict = field(default_factory=dict)  # name -> C++ name of a module-wide array
    lines: list = field(default_factory=list)


def align(x, a):
    return (x + a - 1) // a * a


def parse(text):
    """All entries of a module, and the declarations of its constant arrays."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*|^\s*\.loc[^\n]*$", "", text, flags=re.S | re.M)
    dynamic = re.findall(r"\.extern\s+\.shared\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[\]", text)
    tables, declared = {}, []
    for bits, name, values in re.findall(
        r"\.(?:const|global)\s[^;{]*?\.b(\d+)\s+([\w$]+)\[\d+\]\s*=\s*\{([^}]*)\}", text
    ):
        tables[name] = "c_" + name.replace("$", "_")
        numbers = ", ".join(v.strip() + "ull" for v in values.split(","))
        declared.append(f"alignas(16) static const uint{bits}_t {tables[name]}[] = {{{numbers}}};")
    entries, outside, last = [], "", 0
    for match in re.finditer(r"\.entry\s+([\w$]+)\s*\((.*?)\)(.*?)\{", text, flags=re.S):
        end, depth = match.end(), 1
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        entries.append((Entry(match.group(1), dynamic, constants=tables), match.group(2), text[match.end() : end - 1]))
        outside, last = outside + text[last : match.start()], end
    for entry, params, body in entries:
        for shared in re.findall(r"(?<!\.extern )(\.shared\s[^;]*);", outside + text[last:]):  # of inlined functions
            if "[]" not in shared:
                declare(entry, re.sub(r"\s+", " ", shared))
        read_params(entry, params)
        read_body(entry, body)
    return [entry for entry, _, _ in entries], declared


def read_params(entry, text):
    pattern = r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr[^,]*?\s)?([\w$]+)(?:\[(\d+)\])?"
    at = 0
    for alignment, kind, name, count in re.findall(pattern, text):
        size = width(kind) // 8 * int(count or 1)
        at = align(at, int(alignment or width(kind) // 8))
        entry.params[name] = (at, size)
        at += size
    entry.params_size = at


def read_body(entry, body):
    """Statements are labels, directives and instructions; braces of vector operands belong to their statement."""
    for statement in re.findall(r"[\w$]+:(?!:)|[^;{}:]*\{[^{};]*\}[^;]*;|[^;]*;", body):
        text = re.sub(r"\s+", " ", statement).strip().rstrip(";").strip().lstrip("{} ")  # scopes of inline assembly
        while match := re.match(r"([\w$]+): *(.*)$", text):
            entry.lines.append(f"{match.group(1).replace('$', '_')}:;")
            text = match.group(2)
        if text.startswith("."):
            declare(entry, text)
        elif text:
            entry.lines.append(translate(entry, text))


def declare(entry, text):
    if match := re.match(r"\.reg \.(\w+) (%\w+)<(\d+)>", text):
        kind, name, count = match.groups()
        entry.registers |= {f"{name}{i}": kind for i in range(int(count))}
    elif match := re.match(r"\.reg \.(\w+) (.*)", text):
        entry.registers |= {name.strip(): match.group(1) for name in match.group(2).split(",")}
    elif match := re.match(r"\.shared (?:\.align (\d+) )?\.(\w+) ([\w$]+)(?:\[(\d+)\])?", text):
        alignment, kind, name, count = match.groups()
        entry.shared[name] = align(entry.shared_size, int(alignment or 16))
        entry.shared_size = entry.shared[name] + width(kind) // 8 * int(count or 1)
    elif match := re.match(r"\.local \.align \d+ \.b8 ([\w$]+)\[(\d+)\]", text):
        entry.local_name, entry.local_size = match.group(1), int(match.group(2))
    elif not text.startswith((".pragma", ".loc")):
        raise SystemExit(f"ptx2cpp: unknown directive in {entry.name}: {text}")


def emit(entries, declared):
    out = ['#include "ptx_rt.h"', *declared]
    for i, entry in enumerate(entries):
        start = align(entry.shared_size, 16)
        out += [
            f"static void entry{i}(const unsigned char* params) {{  // {entry.name}",
            f"  constexpr uint32_t dynamic = {start};",
            "  unsigned char* shared = dcemu::shared_memory(&ptx_shared, dynamic + dcemu::B->dynamic_bytes + 16);",
            f"  const uint32_t shared_size = dcemu::B->dynamic_bytes ? dynamic + dcemu::B->dynamic_bytes : {entry.shared_size};",
            "  (void)params, (void)dynamic, (void)shared, (void)shared_size;",
        ]
        if entry.local_size:
            out.append(f"  alignas(16) unsigned char local[{entry.local_size}];")
        for name, kind in entry.registers.items():
            out.append(f"  {'bool' if kind == 'pred' else f'uint{width(kind)}_t'} {variable(name)} = 0;")
        out += ["  " + line for line in entry.lines] + ["}"]
    out.append("const PtxEntry ptx_entries[] = {")
    for i, entry in enumerate(entries):
        params = ", ".join(f"{{{at}, {size}}}" for at, size in entry.params.values())
        out.append(f'  {{"{entry.name}", entry{i}, {entry.params_size}, {len(entry.params)}, {{{params}}}}},')
    out += ["};", f"const int ptx_entry_count = {len(entries)};", ""]
    return "\n".join(out)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(emit(*parse(Path(sys.argv[1]).read_text())))
