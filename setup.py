"""Builds the native libraries; metadata is in pyproject.toml. If it cannot, it leaves pure Python and says so.

The CUDA library is built with DCACCEL_CUDA=1 only, by the nvcc on PATH, and is named for the major version of CUDA. It
needs no CUDA build of torch. The library of pair_autograd.cpp is named for the version of torch,
whose C++ interface it needs.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / os.environ.get("DCACCEL_BUILD", "build/native")  # objects
# Without: the baseline alone, as elsewhere.
X86 = platform.machine().lower() in ("x86_64", "amd64") and os.environ.get("DCACCEL_LEVELS") != "baseline"
LEVELS = {
    0: "",
    1: "-mavx2 -mfma",
    2: "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx512bf16 -mfma -mprefer-vector-width=512 "
    "-Wno-uninitialized -Wno-maybe-uninitialized",
}  # GCC 12 warns about its own intrinsics
TORCH_TARGET = "0x020b000000000000"  # the oldest torch the stable ABI calls need: 2.11
CUDA_ARCHITECTURES = (75, 80, 86, 90, 100, 120)  # and PTX of the last, for what comes after it
FLAGS = "-std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wall"
FLAGS = f"{FLAGS} {os.environ.get('CXXFLAGS', '')}".strip()


def commit():
    try:
        got = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    except OSError:  # no git
        return "unknown"
    return got.stdout.strip() or "unknown"


def nvcc_version():
    """(13, 0) for CUDA 13.0, or None without nvcc."""
    if not shutil.which("nvcc"):
        return None
    out = subprocess.run(["nvcc", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", out)
    return (int(found.group(1)), int(found.group(2))) if found else None


def common_flags(torch):
    import pybind11

    includes = [Path(torch.__file__).parent / "include", sysconfig.get_paths()["include"], pybind11.get_include()]
    return " ".join([FLAGS, f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", *(f"-isystem {path}" for path in includes)])


def rules(compiler, torch, more):
    """Of ninja: how objects and libraries are made. Only what has changed is compiled, side by side."""
    libraries = "-undefined dynamic_lookup" if sys.platform == "darwin" else "-Wl,--no-as-needed -ltorch_cpu -lc10"
    link = f"-shared -L{Path(torch.__file__).parent / 'lib'} {libraries}"
    return [
        "rule cc",
        f"  command = {compiler} {common_flags(torch)} {more} $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler} $in {link} $libraries -o $out",
    ]


def cpu_file(target, compiler, torch):
    """One object per source and instruction set."""
    lines, objects = rules(compiler, torch, "-DDCACCEL_HAS_X86_LEVELS" if X86 else ""), []
    for source in sorted((ROOT / "csrc").glob("*/*.cpp")):
        if source.name.startswith("cuda") or source.name == "pair_autograd.cpp":
            continue
        for level, flags in LEVELS.items():
            if level and (source.name != "cpu.cpp" or not X86):
                continue
            if source.name == "module.cpp":
                flags = f"""-DDCACCEL_COMMIT='"{commit()}"' -DDCACCEL_FLAGS='"{FLAGS}"'"""
            objects.append(f"{source.parent.name}-{source.stem}-{level}.o")
            lines += [f"build {objects[-1]}: cc {source}", f"  flags = -DDCACCEL_LEVEL={level} {flags}"]
    return "\n".join([*lines, f"build {target}: link {' '.join(objects)}", ""])


def cuda_file(target, compiler, torch):
    """Kernels by nvcc, without torch; bindings by the C++ compiler, without CUDA; the runtime is linked in."""
    # The nvcc on PATH may be a script that calls another; what it would run says where the toolkit is.
    shown = subprocess.run(["nvcc", "--dryrun", "x.cu"], capture_output=True, text=True).stderr
    home = Path(re.search(r"_HERE_=(.*)", shown).group(1)).parent
    known = subprocess.run(["nvcc", "--list-gpu-arch"], capture_output=True, text=True).stdout
    archs = [a for a in CUDA_ARCHITECTURES if f"compute_{a}\n" in known]
    codes = " ".join(f"-gencode arch=compute_{a},code=sm_{a}" for a in archs)
    major, minor = nvcc_version()
    lines = [
        *rules(compiler, torch, ""),
        "rule nvcc",
        f"  command = nvcc -std=c++20 -O3 {codes} -gencode arch=compute_{archs[-1]},code=compute_{archs[-1]} "
        f"-Xcompiler -fPIC,-fvisibility=hidden -ccbin {compiler.split()[0]} -MD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
    ]
    facts = f"""-DDCACCEL_CUDA_MODULE={target.stem} -DDCACCEL_CUDA_VERSION='"{major}.{minor}"' """
    facts += f"""-DDCACCEL_CUDA_ARCHITECTURES='"{" ".join(map(str, archs))}"' -DDCACCEL_COMMIT='"{commit()}"'"""
    objects = []
    for source in sorted([*(ROOT / "csrc").glob("*/cuda*.cpp"), *(ROOT / "csrc").glob("*/*.cu")]):
        objects.append(f"{source.parent.name}-{source.name}.o")
        lines.append(f"build {objects[-1]}: {'nvcc' if source.suffix == '.cu' else 'cc'} {source}")
        if source.name == "cuda_module.cpp":
            lines.append(f"  flags = {facts}")
    lines += [f"build {target}: link {' '.join(objects)}"]
    places = " ".join(f"-L{p}" for p in (home / "lib64", home / "targets/x86_64-linux/lib", home / "lib") if p.exists())
    return "\n".join([*lines, f"  libraries = {places} -lcudart_static -ldl -lrt -lpthread", ""])


def autograd_file(target, compiler, torch):
    """The only source that is compiled against torch's C++ interface rather than the stable one."""
    source, flags = ROOT / "csrc/common/pair_autograd.cpp", f"-DDCACCEL_AUTOGRAD_MODULE={target.stem}"
    lines = [
        *rules(compiler, torch, ""),
        f"build pair_autograd.o: cc {source}",
        f"  flags = -UTORCH_TARGET_VERSION {flags}",
    ]
    return "\n".join([*lines, f"build {target}: link pair_autograd.o", ""])


LIBRARIES = {  # beginning of a name: how it is built, and what there is with and without it
    "_native_cpu": (
        cpu_file,
        f"native kernels for {'baseline, avx2, avx512' if X86 else 'baseline'}",
        "pure Python, without native kernels",
    ),
    "_native_cuda": (cuda_file, "native kernels for CUDA", "without CUDA kernels"),
    "_native_autograd": (autograd_file, "autograd in C++", "with autograd in Python"),
}


class BuildNative(build_ext):
    def build_extension(self, ext):
        name = ext.name.rpartition(".")[2]
        built, target = BUILD / f"{name}.so", Path(self.get_ext_fullpath(ext.name))
        kind = next(filter(name.startswith, LIBRARIES))
        ninja_file, done, without = LIBRARIES[kind]
        note = f"{kind.removesuffix('_cpu')}_missing.txt"
        places = {target.parent}
        if self.editable_mode or self.inplace:  # the source tree would go on using an older library
            places.add(ROOT / "deepclust_accel")
        for place in places:
            for stale in (place / target.name, place / note):
                stale.unlink(missing_ok=True)
        reason = self.compile(built, ninja_file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if reason:
            print(f"deepclust_accel: building {without}: {reason}", file=sys.stderr)
            for place in places:
                (place / note).write_text(reason + "\n")
        else:
            print(f"deepclust_accel: built {done}")
            shutil.copy2(built, target)

    def compile(self, built, ninja_file):
        """The reason why there is no library, or an empty string."""
        if os.environ.get("DCACCEL_NATIVE") == "0":
            return "DCACCEL_NATIVE=0 was set"
        if ninja_file is cuda_file and nvcc_version() is None:
            return "DCACCEL_CUDA=1 was set, but nvcc is not on PATH"
        compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
        if compiler is None or not shutil.which(compiler.split()[0]):
            return f"no C++ compiler was found ({compiler or 'g++, clang++, c++'})"
        try:
            import ninja
            import torch
        except ImportError as error:
            return f"{error.name} cannot be imported at build time"
        BUILD.mkdir(parents=True, exist_ok=True)
        steps = BUILD / f"{built.stem}.ninja"
        steps.write_text(ninja_file(built, compiler, torch))
        command = [Path(ninja.BIN_DIR) / "ninja", "-C", BUILD, "-f", steps]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            (BUILD / "log.txt").write_text(run.stdout + run.stderr)
            first = next((line for line in run.stdout.splitlines() if "error" in line), "no message")
            return f"{compiler} failed: {first} (all of it in {BUILD / 'log.txt'})"
        return ""


def extensions():
    names = ["_native_cpu"]
    if os.environ.get("DCACCEL_CUDA") == "1":
        names.append(f"_native_cuda{(nvcc_version() or ('',))[0]}")
    try:
        names.append("_native_autograd_" + re.sub(r"\W", "_", metadata.version("torch").partition("+")[0]))
    except metadata.PackageNotFoundError:
        pass  # said of _native_cpu
    return [Extension(f"deepclust_accel.{name}", sources=[], optional=True) for name in names]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildNative})
