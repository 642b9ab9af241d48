"""Every built-in method that says it is distributed, in float64 on 1, 2 and 4 processes over gloo, with the same batches.

    python bench/parity.py --out bench/results/parity.json

tests/ranks/worker.py says what is compared. A difference is the largest one of an array over the largest value in the
array of one process, to which ``FLOOR`` is added: a divergence at its start is a difference of nearly equal terms. Exit
code 1 when one is above ``LIMIT``, or labels or numbers of epochs differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from deepclust_accel.methods import registry

WORKER = Path(__file__).parents[1] / "tests" / "ranks" / "worker.py"
LIMIT, FLOOR, BATCH = 1e-12, 1e-3, 48
SMALL = {
    "hidden": [12],
    "latent_dim": 3,
    "pretrain_epochs": 1,
    "layer_epochs": 1,
    "epochs": 1,
    "expert_epochs": 1,
    "classifier_steps": 1,
    "warmup_epochs": 0,
    "n_init": 3,
    "embedding_hidden": [6],
    "embed_dim": 3,
    "channels": [2, 3, 4],
    "discriminator_channels": [2, 3],
}
WHOLE = {**SMALL, "pretrain_epochs": 3, "epochs": 12, "stop_changed_fraction": 0.02}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4], help="compared with one")
    parser.add_argument("--methods", nargs="+", default=distributed())
    parser.add_argument("--out", type=Path, help="where the result goes as JSON")
    options = parser.parse_args()
    result = measured(options.methods, options.ranks)
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if options.out:
        options.out.write_text(text)
    return 0 if agree(result) else 1


def distributed() -> list[str]:
    """Names of the built-in methods that several processes may fit."""
    own = [e for e in registry.entries() if e.distribution == registry.BUILT_IN and not e.problem]
    return [entry.name for entry in own if registry.load(entry.name).info.distributed]


def measured(methods: list[str], ranks: list[int]) -> dict:
    """The record: for each method and number of processes what differs from one process."""
    with tempfile.TemporaryDirectory() as folder:
        one, *several = (outcomes(methods, count, Path(folder) / str(count)) for count in (1, *ranks))
    return {
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "dtype": "float64",
        "backend": "gloo",
        "rows_of_a_step": BATCH,
        "limit": LIMIT,
        "settings": {"stages": SMALL, "fit": WHOLE},
        "methods": {
            method: {str(n): compared(one[method], found[method]) for n, found in zip(ranks, several, strict=True)}
            for method in methods
        },
    }


def outcomes(methods: list[str], ranks: int, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Method → what that many processes find."""
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    settings = [json.dumps(SMALL), json.dumps(WHOLE), str(BATCH), str(folder)]
    command = [sys.executable, *launch, str(WORKER), ",".join(methods), *settings]
    done = subprocess.run(command, env={"OMP_NUM_THREADS": "1", **os.environ}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{ranks} processes: expected them to end, got {done.returncode}\n{done.stderr[-3000:]}")
    found = {}
    for method in methods:
        with np.load(folder / f"{method}.npz") as file:
            found[method] = dict(file)
    return found


def compared(one: dict[str, np.ndarray], several: dict[str, np.ndarray]) -> dict:
    """Largest differences of losses, gradients, centers and targets (None where a method has none), and of the fit."""
    if one.keys() != several.keys():
        raise SystemExit(f"expected equal names of results, got others: {sorted(one.keys() ^ several.keys())}")
    if not any(key.endswith("/gradients") for key in one):
        raise SystemExit("expected gradients of a stage, got none")
    worst: dict[str, float | None] = dict.fromkeys(("losses", "gradients", "centers", "targets"))
    for key, expected in one.items():
        stage, kind, *_ = key.split("/")
        if stage != "fit":
            scale = np.abs(expected).max(initial=0) + FLOOR
            worst[kind] = max(worst[kind] or 0.0, float(np.abs(several[key] - expected).max(initial=0) / scale))
    epochs = {key.split("/")[2]: int(value) for key, value in one.items() if key.startswith("fit/epochs/")}
    return {
        **worst,
        "epochs": epochs,
        "same_epochs": all(int(several[f"fit/epochs/{stage}"]) == count for stage, count in epochs.items()),
        "same_labels": bool((one["fit/labels"] == several["fit/labels"]).all()),
    }


def agree(result: dict) -> bool:
    """Whether all processes find the same."""
    rows = [row for found in result["methods"].values() for row in found.values()]
    kinds = ("losses", "gradients", "centers", "targets")
    # not "> LIMIT", which is false for NaN
    return all((row[k] is None or row[k] <= LIMIT) for row in rows for k in kinds) and all(
        row["same_epochs"] and row["same_labels"] for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
