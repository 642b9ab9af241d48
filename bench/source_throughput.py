"""Rows a second of training from a mapped .npy and from Parquet, beside the same rows in memory.

    OMP_NUM_THREADS=1 python bench/source_throughput.py --rows 2000000 --folder /big/disk \\
        --out bench/results/source_throughput.json

Makes the planted rows of ``bench/large_data.py`` as .npy, .npz (which is held in memory whole) and .parquet. Each round fits
``idec``, with the small network and the batch of 4,096 rows of that bench and some epochs a stage, to each of them in a
process of its own; the order rotates. A number is the median over the epochs of a stage of ``machine.rows_per_second`` in
``history.jsonl``: networks, losses, optimizer and waiting for rows. ``ratio`` is the median over the rounds of that from a
file over that from memory in the same round. The page cache is warm, so no disk is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from large_data import SETTINGS, K, make

from deepclust_accel.bench.machine import describe

FORMS = (".npz", ".npy", ".parquet")
EPOCHS = 4
STAGES = ("pretrain", "cluster")


def made(folder: Path, rows: int, width: int) -> None:
    """The same rows in all three forms."""
    npy = folder / "rows.npy"
    make(npy, rows, width)
    np.savez(folder / "rows.npz", X=np.load(npy, mmap_mode="r"))
    (folder / "rows.parquet").unlink(missing_ok=True)
    convert = [sys.executable, "-m", "deepclust_accel", "data", "convert", str(npy), str(folder / "rows.parquet")]
    subprocess.run(convert, check=True)


def speeds(path: Path, run: Path) -> dict[str, float]:
    """Rows a second of each stage, in a process of its own."""
    given = [*SETTINGS["idec"], f"pretrain_epochs={EPOCHS}", f"epochs={EPOCHS}", "stop_changed_fraction=0"]
    sets = [word for value in given for word in ("--set", value)]
    command = [sys.executable, "-m", "deepclust_accel", "fit", "idec", str(path), "-k", str(K), "--out", str(run)]
    subprocess.run([*command, "--overwrite", "--quiet", *sets], check=True, stdout=subprocess.DEVNULL)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return {
        stage: statistics.median(r["machine"]["rows_per_second"] for r in history if r["stage"] == stage)
        for stage in STAGES
    }


def main() -> None:
    """Run the rounds and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    os.environ["TMPDIR"] = str(chosen.folder)
    about = describe()  # of the load before the run
    made(chosen.folder, chosen.rows, chosen.width)
    rounds = []
    for number in range(chosen.rounds):
        first = number % len(FORMS)
        order = (*FORMS[first:], *FORMS[:first])
        found = {form: speeds(chosen.folder / f"rows{form}", chosen.folder / "run") for form in order}
        rounds.append(found)
        print(json.dumps(found), flush=True)
    ratios = {
        form: {stage: statistics.median(r[form][stage] / r[".npz"][stage] for r in rounds) for stage in STAGES}
        for form in FORMS[1:]
    }
    print(json.dumps(ratios))
    settings = {
        "rows": chosen.rows,
        "width": chosen.width,
        "epochs": EPOCHS,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    record = {"machine": about, "settings": settings, "rows_per_second": rounds, "ratio": ratios}
    if chosen.out:
        chosen.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
