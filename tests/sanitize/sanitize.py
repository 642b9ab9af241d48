"""The CPU operators under the sanitizers: built with them, and tested at the edges of tiles and blocks on several threads.

    python tests/sanitize/sanitize.py [address] [thread]

Only our libraries are built with them. `address` (with `undefined`) puts itself under malloc, so that it sees every access of
a kernel beside a tensor; leaks are not looked for, since an interpreter never frees all it has. `thread` does not see
OpenMP's barriers: built for it, threads.cpp starts threads of its own, and what is proved is that no two of
them touch the same numbers unordered between the start and the end of a parallel loop. Needs g++ and Linux.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = {
    # vptr would need the type information of torch's classes
    "address": "-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all",
    "thread": "-fsanitize=thread",
}
OPTIONS = {
    "address": {
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
    "thread": {  # of the mutexes, all of them torch's, it does not see every lock; ours are atomics
        "TSAN_OPTIONS": f"suppressions={Path(__file__).with_name('thread.supp')}:report_mutex_bugs=0:exitcode=66"
    },
}
RUNTIMES = {"address": ("libasan.so", "libubsan.so", "libstdc++.so"), "thread": ("libtsan.so", "libstdc++.so")}
# The case tables of the operators; the reference is torch's own, and pages of loops in Python prove nothing here.
CASES = "(matches or layouts or only_the_gradients or not_a_number or golden or closed_forms) and not reference"
LEVELS = {"address": "all", "thread": "baseline"}  # who shares what is the same at every level
THREADS = {"address": (1, 3), "thread": (2, 4)}


def build(kind: str) -> Path:
    """Make the whole package, with its libraries, in a folder of its own."""
    place = ROOT / "build" / "sanitize" / kind
    env = os.environ | {
        "CXX": f"g++ {FLAGS[kind]}",
        "CXXFLAGS": "-O1 -g1 -fno-omit-frame-pointer",  # at -O3 it takes half an hour
        "DCACCEL_BUILD": str(place / "native"),
        "DCACCEL_LEVELS": LEVELS[kind],
    }
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", place / "base", "--build-lib", place / "lib"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)
    missing = list((place / "lib").rglob("_native*_missing.txt"))
    assert not missing, missing[0].read_text()
    return place / "lib"


def test(kind: str, package: Path, threads: int) -> str:
    """Run the tests on the libraries of ``package``; the last line that pytest has said."""
    found = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True) for name in RUNTIMES[kind]
    ]
    env = os.environ | OPTIONS[kind]
    env |= {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1", "DCACCEL_TEST_THREADS": str(threads)}
    env["LD_PRELOAD"] = " ".join(each.stdout.strip() for each in found)
    # the memory map of `thread` has no room for addresses as random as they are today
    plain = ["setarch", platform.machine(), "-R"] if kind == "thread" else []
    where = f"import deepclust_accel, sys; sys.exit(not deepclust_accel.__file__.startswith({str(package)!r}))"
    subprocess.run([*plain, sys.executable, "-c", where], env=env, check=True)
    command = [*plain, sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "tests/ops", "-k", CASES]
    done = subprocess.run([*command, "-x", "--capture=sys"], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        found = re.search(r"(?s)[^\n]*(runtime error|AddressSanitizer|ThreadSanitizer).*", done.stderr)
        sys.exit(
            f"{kind}, {threads} threads: {found[0][:4000] if found else done.stdout[-4000:] + done.stderr[-4000:]}"
        )
    return re.sub(r" in .*", "", done.stdout.strip().splitlines()[-1])


def main() -> None:
    for kind in sys.argv[1:] or FLAGS:
        package = build(kind)
        for threads in THREADS[kind]:
            print(f"{kind}, {threads} threads: {test(kind, package, threads)}", flush=True)


if __name__ == "__main__":
    main()
