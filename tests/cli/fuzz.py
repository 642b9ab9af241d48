"""Damaged files, configs, plugin metadata and command lines for the command line: no traceback, no hang, no crash.

    python tests/cli/fuzz.py --inputs 6000 --out bench/results/fuzz.json

Every input is one call in this process. It must end within ten seconds with exit code 0 or 2 (or 1, where `data check`
finds rows unfit), with nothing that reads like a traceback, and with one line on stderr where the code is 2. Command lines
leave out what would run for long or start processes: benches, and `fit` on rows that exist. Exit code 1 when one fails.
"""

import argparse
import io
import json
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from command_line import dcaccel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deepclust_accel.methods import registry

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
SECONDS = 10


def whole_files():
    """Name → bytes of a file of every format."""
    import h5py
    import pyarrow
    from pyarrow import feather, parquet

    table = pyarrow.table({name: ROWS[:, i] for i, name in enumerate("abc")})
    files = {}
    for name, save in (
        ("a.npy", np.save),
        ("a.npz", lambda f, x: np.savez(f, X=x, y=np.arange(20) % 4)),
        ("a.csv", lambda f, x: np.savetxt(f, x, delimiter=",", header="a,b,c", comments="")),
        ("a.parquet", lambda f, x: parquet.write_table(table, f)),
        ("a.feather", lambda f, x: feather.write_feather(table, f)),
    ):
        stream = io.BytesIO()
        save(stream, ROWS)
        files[name] = stream.getvalue()
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["rows"] = ROWS
    return files | {"a.h5": stream.getvalue()}


FILES = whole_files()


@st.composite
def damaged(draw):
    """A file name and what is in the file."""
    name = draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    how = draw(st.sampled_from(["flip", "cut", "cut and flip", "insert", "anything"]))
    if how == "anything":
        return name, draw(st.binary(max_size=200))
    if "cut" in how:
        content = content[: draw(st.integers(0, len(content)))]
    if "flip" in how and content:
        for _ in range(draw(st.integers(1, 4))):
            place = draw(st.integers(0, min(len(content), 400) - 1) | st.integers(0, len(content) - 1))
            content[place] ^= draw(st.integers(1, 255))
    if how == "insert":
        place = draw(st.integers(0, len(content)))
        content[place:place] = draw(st.binary(min_size=1, max_size=30))
    return name, bytes(content)


def files(folder, case):
    """`data info` and `data check` of a damaged file."""
    name, content = case
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    part = "::rows" if name == "a.h5" else ""
    return [["data", "info", f"{path}{part}"], ["data", "check", f"{path}{part}"]]


KEYS = ["n_clusters", "seed", "scaling", "device", "precision", "compile", "epochs_scale", "params", "epochs", "x"]
VALUES = [
    "1",
    "-1",
    "0",
    "1e400",
    "nan",
    "true",
    '"x"',
    "[]",
    "{}",
    "[1, 2]",
    "9" * 30,
    "1979-05-27",
    '"cpu"',
    "''",
    "2",
]
config = st.one_of(
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), max_size=5).map(
        lambda pairs: "\n".join(f"{key} = {value}" for key, value in pairs)
    ),
    st.lists(
        st.tuples(st.sampled_from(["hidden", "epochs", "n_init", "beta", "x"]), st.sampled_from(VALUES)), max_size=5
    ).map(lambda pairs: "n_clusters = 2\n[params]\n" + "\n".join(f"{key} = {value}" for key, value in pairs)),
    st.text(max_size=60),
).map(str.encode) | st.binary(max_size=60)


def configs(folder, case):
    """A fit with this config file, of rows that are not there."""
    (folder / "c.toml").write_bytes(case)
    return [["fit", "dvae", folder / "gone.npy", "-c", folder / "c.toml", "--out", folder / "run"]]


line = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
offer = st.tuples(
    line | st.sampled_from(["dvae", "mine", "a b", ""]), line | st.sampled_from(["os:path", "json:Gone", "x"])
)
metadata = st.tuples(
    st.lists(offer, max_size=4).map(lambda offers: "".join(f"{name} = {value}\n" for name, value in offers)) | line,
    st.just("Metadata-Version: 2.1\nName: {}\nVersion: 1\n") | line,
    line,
)


def plugins(folder, case):
    """The list of methods beside a distribution with this metadata."""
    offers, about, name = case
    info = folder / "strange-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(about.replace("{}", name))
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{offers}")
    return [["methods", "list"], ["methods", "show", name or "x"]]


WORDS = [
    "fit",
    "predict",
    "embed",
    "report",
    "methods",
    "list",
    "show",
    "data",
    "info",
    "check",
    "convert",
    "plugin",
    "--",
]
WORDS += ["-k", "--out", "--set", "-c", "--seed", "--labels", "--json", "--resume", "--overwrite", "-q", "--pretrained"]
WORDS += [
    "kmeans",
    "dvae",
    "gone.npy",
    "rows.npy",
    "a=b",
    "epochs=1",
    "2",
    "-1",
    "",
    "--help",
    "--debug=1",
    "--device",
    "cuda:9",
]
words = st.lists(st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=9)


def commands(folder, case):
    """A command line of words that are right in some other place."""
    harmless = "fit" not in case or "rows.npy" not in case
    return [case] if harmless and "bench" not in case and "doctor" not in case else []


TARGETS = {
    "files": (files, damaged()),
    "configs": (configs, config),
    "plugins": (plugins, metadata),
    "commands": (commands, words),
}


class Hang(BaseException):
    """Raised by the clock; no handler for errors takes it for one."""


def problem(arguments, folder, codes):
    """Run one command line and count its exit code; what is wrong with how it ended, or an empty string."""

    def ring(*_):
        raise Hang

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        done = dcaccel(*arguments, cwd=folder)
    except Hang:
        return f"still at work after {SECONDS} s"
    except BaseException as cause:  # noqa: BLE001 - whatever comes through is what is looked for
        return f"{type(cause).__name__}: {cause}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    codes[done.returncode] += 1
    unfit = done.returncode == 1 and list(arguments[:2]) == ["data", "check"] and "defect" not in done.stderr
    if done.returncode not in (0, 2) and not unfit:
        return f"exit code {done.returncode}: {done.stderr[-400:]}"
    if "Traceback (most" in done.stderr or (done.returncode == 2 and len(done.stderr.rstrip("\n").split("\n")) != 1):
        return f"more than a line: {done.stderr[-400:]}"
    return ""


def run(target, inputs, seed, folder):
    """Try ``inputs`` cases of a target in a folder; returns exit code → how often, and the problems, simplest case last."""
    make, cases = TARGETS[target]
    codes, problems = Counter(), []
    folder.mkdir(exist_ok=True)
    np.save(folder / "rows.npy", ROWS)

    @hypothesis.seed(seed)
    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def attempt(case):
        for arguments in make(folder, case):
            if wrong := problem(arguments, folder, codes):
                problems.append({"case": repr(case), "command": [str(a) for a in arguments], "problem": wrong})
                raise AssertionError(wrong)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("DCACCEL_DATA", str(folder))
        if target == "plugins":
            patch.syspath_prepend(str(folder))
        try:
            attempt()
        except (AssertionError, hypothesis.errors.HypothesisException, BaseExceptionGroup):
            assert problems
    return codes, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--out", type=Path, help="where the result goes as JSON")
    options = parser.parse_args()
    begin, result, names = time.monotonic(), {"seed": options.seed, "targets": {}}, options.targets.split(",")
    for target in names:
        with tempfile.TemporaryDirectory() as folder:
            codes, problems = run(target, options.inputs // len(names), options.seed, Path(folder) / "desk")
        result["targets"][target] = {"exit_codes": dict(sorted(codes.items())), "problems": problems[-1:]}
    result |= {"commands": sum(sum(t["exit_codes"].values()) for t in result["targets"].values())}
    result["seconds"] = round(time.monotonic() - begin, 1)
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    return int(any(t["problems"] for t in result["targets"].values()))


if __name__ == "__main__":
    sys.exit(main())
