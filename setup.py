"""Builds the native library; metadata is in pyproject.toml. If it cannot, it leaves pure Python and says so."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
BUILD = ROOT / "build" / "native"
X86 = platform.machine().lower() in ("x86_64", "amd64")
LEVELS = {
    0: "",
    1: "-mavx2 -mfma",
    2: "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mprefer-vector-width=512 "
    "-Wno-uninitialized -Wno-maybe-uninitialized",
}  # GCC 12 warns about its own intrinsics
TORCH_TARGET = "0x020b000000000000"  # the oldest torch the stable ABI calls need: 2.11
FLAGS = "-std=c++20 -O3 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wall"


def commit():
    try:
        got = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    except OSError:  # no git
        return "unknown"
    return got.stdout.strip() or "unknown"


def ninja_file(target, compiler, torch):
    """One object per source and instruction set; ninja compiles them side by side and only what has changed."""
    import pybind11

    includes = [Path(torch.__file__).parent / "include", sysconfig.get_paths()["include"], pybind11.get_include()]
    common = " ".join([FLAGS, f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", *(f"-isystem {path}" for path in includes)])
    common += " -DDCACCEL_HAS_X86_LEVELS" if X86 else ""
    libraries = "-undefined dynamic_lookup" if sys.platform == "darwin" else "-Wl,--no-as-needed -ltorch_cpu -lc10"
    link = f"-shared -L{Path(torch.__file__).parent / 'lib'} {libraries}"
    lines = [
        "rule cc",
        f"  command = {compiler} {common} $flags -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = {compiler} $in {link} -o $out",
    ]
    objects = []
    for source in sorted((ROOT / "csrc").glob("*/*.cpp")):
        for level, flags in LEVELS.items():
            if level and (source.name != "cpu.cpp" or not X86):
                continue
            if source.name == "module.cpp":
                flags = f"""-DDCACCEL_COMMIT='"{commit()}"' -DDCACCEL_FLAGS='"{FLAGS}"'"""
            objects.append(f"{source.parent.name}-{source.stem}-{level}.o")
            lines += [f"build {objects[-1]}: cc {source}", f"  flags = -DDCACCEL_LEVEL={level} {flags}"]
    return "\n".join([*lines, f"build {target}: link {' '.join(objects)}", ""])


class BuildNative(build_ext):
    def build_extension(self, ext):
        built, target = BUILD / "_native_cpu.so", Path(self.get_ext_fullpath(ext.name))
        places = {target.parent}
        if self.editable_mode or self.inplace:  # the source tree would go on using an older library
            places.add(ROOT / "deepclust_accel")
        for place in places:
            for stale in (place / target.name, place / "_native_missing.txt"):
                stale.unlink(missing_ok=True)
        reason = self.compile(built)
        target.parent.mkdir(parents=True, exist_ok=True)
        if reason:
            print(f"deepclust_accel: building pure Python, without native kernels: {reason}", file=sys.stderr)
            for place in places:
                (place / "_native_missing.txt").write_text(reason + "\n")
        else:
            print(f"deepclust_accel: built native kernels for {'baseline, avx2, avx512' if X86 else 'baseline'}")
            shutil.copy2(built, target)

    def compile(self, built):
        """The reason why there is no library, or an empty string."""
        if os.environ.get("DCACCEL_NATIVE") == "0":
            return "DCACCEL_NATIVE=0 was set"
        compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "clang++", "c++")), None)
        if compiler is None or not shutil.which(compiler.split()[0]):
            return f"no C++ compiler was found ({compiler or 'g++, clang++, c++'})"
        try:
            import ninja
            import torch
        except ImportError as error:
            return f"{error.name} cannot be imported at build time"
        BUILD.mkdir(parents=True, exist_ok=True)
        (BUILD / "build.ninja").write_text(ninja_file(built, compiler, torch))
        run = subprocess.run([Path(ninja.BIN_DIR) / "ninja", "-C", BUILD], capture_output=True, text=True)
        if run.returncode:
            (BUILD / "log.txt").write_text(run.stdout + run.stderr)
            first = next((line for line in run.stdout.splitlines() if "error" in line), "no message")
            return f"{compiler} failed: {first} (all of it in {BUILD / 'log.txt'})"
        return ""


setup(
    ext_modules=[Extension("deepclust_accel._native_cpu", sources=[], optional=True)],
    cmdclass={"build_ext": BuildNative},
)
