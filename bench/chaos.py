"""Fits that are killed again and again, and resumed until they are done, end with the bits of one that nobody disturbed.

    python bench/chaos.py --runs 100 --seed 0 --out bench/results/chaos.json

A session is a forked child that runs ``dcaccel fit … --resume`` with a snapshot every epoch. Every other one gets SIGKILL
from outside after a random time; those between kill themselves at a random moment of their writing: with half a file
written, or before or after a file or folder goes to disk, gets its name, or is removed. Equal means: the same bytes of
model, labels and probabilities, the same history but for seconds, a finished record, and no other file left behind.
Exit code 1 when a run is not.
"""

import argparse
import functools
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import lightning_fabric  # noqa: F401 - imported before the forks, once for all sessions, as is the rest
import numpy as np
import torch
from sklearn.datasets import load_digits

from deepclust_accel import cli, fitting, workflow  # noqa: F401
from deepclust_accel.engine import checkpoint
from deepclust_accel.engine.monitor import logged
from deepclust_accel.methods import registry

SETTINGS = {
    "hidden": 64,
    "latent_dim": 5,
    "pretrain_epochs": 8,
    "pretrain_batch_size": 16,
    "pretrain_learning_rate": 0.005,
    "epochs": 6,
    "batch_size": 100,
    "warmup_epochs": 1,
    "classifier_steps": 40,
    "n_init": 2,
}
ROWS, MOST_DEATHS = 300, 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the result goes as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = campaign(options.runs, options.seed, Path(folder))
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    return 0 if result["equal"] == options.runs else 1


def campaign(runs: int, seed: int, folder: Path) -> dict:
    """Kill and resume ``runs`` fits; say how often each death came, and which runs went wrong and how."""
    torch.set_num_threads(1)  # a fork takes no other thread along
    registry.load("dvae")
    X, y = load_digits(return_X_y=True)
    np.savez(folder / "rows.npz", X=X[:ROWS].astype(np.float32), y=y[:ROWS])
    begin, log = time.monotonic(), folder / "events"
    code = session(folder, "whole", never)
    seconds, events = time.monotonic() - begin, len(log.read_text().splitlines())
    assert code == 0, (folder / "said").read_text()
    expected, deaths, wrong, sessions = outcome(folder / "whole"), Counter(), {}, 0
    for run in range(runs):
        chance, name = random.Random(f"{seed} {run}"), f"run{run}"
        for number in range(chance.randint(1, MOST_DEATHS) + 1):
            last = number == MOST_DEATHS or number and chance.random() < 0.2
            die = never if last else inside(chance, events) if number % 2 == 0 else outside(chance, seconds)
            code, sessions = session(folder, name, die), sessions + 1
            if code != -signal.SIGKILL:
                break
            deaths[log.read_text().splitlines()[-1] if number % 2 == 0 else "from outside"] += 1
        else:
            code, sessions = session(folder, name, never), sessions + 1
        found = outcome(folder / name)
        if code or found != expected:
            differs = [key for key in {*found, *expected} if found.get(key) != expected.get(key)]
            said = (folder / "said").read_text()[-500:]
            wrong[run] = {"code": code, "differs": differs, "files": found.get("files"), "said": said}
    return {
        "runs": runs,
        "seed": seed,
        "equal": runs - len(wrong),
        "sessions": sessions,
        "killed": sum(deaths.values()),
        "killed_while_writing_a_snapshot": sum(n for event, n in deaths.items() if "snapshot" in event),
        "deaths": dict(sorted(deaths.items())),
        "wrong": wrong,
        "seconds": round(time.monotonic() - begin, 1),
        "torch": torch.__version__,
    }


def never(child: int) -> None:
    """Let it live."""


def outside(chance: random.Random, seconds: float):
    """SIGKILL at a moment that a whole run would still be at work."""
    moment = seconds * chance.random() ** 2  # a resumed session is shorter than a whole run

    def die(child: int) -> None:
        if child:
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)

    return die


def inside(chance: random.Random, events: int):
    """SIGKILL at one of the events of a whole run, before it, after it, or, of a write, in its midst."""
    moment = int(2 * events * chance.random() ** 2)

    def die(child: int) -> None:
        if not child:
            session.dies_at = moment

    return die


def session(folder: Path, name: str, die) -> int:
    """Run the command in a child; its exit code, or -9. What it said and its events are in files of the folder."""
    child = os.fork()
    if child:
        die(child)
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status)
    try:  # never back into the caller: this is the child
        for stream in (1, 2):
            os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        session.dies_at = -1
        die(0)
        watch_events(os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
        fitting.Engine = functools.partial(fitting.Engine, save_seconds=0.0)
        chosen = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
        rows, out = str(folder / "rows.npz"), str(folder / name)
        sys.argv = [
            "dcaccel",
            "fit",
            "dvae",
            rows,
            "-k",
            "10",
            "--out",
            out,
            "--quiet",
            "--resume",
            "--scaling",
            "unit",
            *chosen,
        ]
        cli.main()
    except SystemExit as end:
        os._exit(end.code or 0)
    except BaseException:  # noqa: BLE001 - said, then the child ends
        traceback.print_exc()
    os._exit(70)


def watch_events(log: int) -> None:
    """From now on every write, sync, rename and removal is an event with a line in the log; one of them may be the last."""
    events = iter(range(10**9))

    def watched(call, what):
        @functools.wraps(call)
        def wrapper(target, *rest, **more):
            shown = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            kind = "snapshot" if "/checkpoint" in shown else "record" if "run.json" in shown else "file"
            os.write(log, f"{what} of a {kind}\n".encode())
            at = session.dies_at - 2 * next(events)
            if at == 0:
                if what == "write":
                    call(target, *rest, **more)
                    os.truncate(target, os.path.getsize(target) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(target, *rest, **more)
            if at == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapper

    Path.write_bytes = watched(Path.write_bytes, "write")
    save = checkpoint.save_file
    write = watched(lambda path, tensors, **more: save(tensors, path, **more), "write")
    checkpoint.save_file = lambda tensors, path, **more: write(path, tensors, **more)
    for name in ("fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, watched(getattr(os, name), name))


def outcome(folder: Path) -> dict:
    """What must be equal."""
    try:
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        return {
            "files": sorted(p.name for p in folder.iterdir()),
            "status": json.loads((folder / "run.json").read_text())["status"],
            "history": [(record["stage"], record["epoch"], logged(record)) for record in history],
            **{n: (folder / n).read_bytes() for n in ("model.safetensors", "labels.npy", "probabilities.npy")},
        }
    except (OSError, ValueError) as cause:
        return {"unreadable": str(cause)}


if __name__ == "__main__":
    sys.exit(main())
