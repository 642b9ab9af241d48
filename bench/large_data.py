"""Cluster data that do not fit into memory and watch what it costs: anonymous memory and time.

    python bench/large_data.py --rows 40000000 --folder /big/disk --out bench/results/large_data.json

Makes a .npy of float32 rows around planted centers (and with --parquet the same rows as Parquet), runs `dcaccel fit`
with a small network and one epoch a stage, then `dcaccel predict` to Parquet, each in a process of its own whose
RssAnon is read 20 times a second. RssAnon leaves out what belongs to files (memory maps, the page cache), which the
system can drop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from sklearn.metrics import adjusted_rand_score

K, BLOCK = 10, 1 << 16
SETTINGS = {
    "idec": ["hidden=[64]", "pretrain_epochs=1", "pretrain_batch_size=4096", "epochs=1", "batch_size=4096"],
    "dvae": [
        "hidden=[64]",
        "pretrain_epochs=1",
        "pretrain_batch_size=4096",
        "classifier_steps=1",
        "epochs=1",
        "batch_size=4096",
    ],
}


def make(path: Path, rows: int, width: int) -> None:
    """Write rows around K planted centers, row i of cluster i % K."""
    if path.exists() and np.load(path, mmap_mode="r").shape == (rows, width):
        return
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(K, width)).astype(np.float32)
    noise = generator.normal(size=(BLOCK, width)).astype(np.float32)  # shifted from block to block, to be quick
    out = open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width))
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        turned = np.roll(noise, int(generator.integers(BLOCK)), 0)[:count] * generator.choice([-1, 1], width)
        out[first : first + count] = centers[np.arange(first, first + count) % K] + turned.astype(np.float32)
    out.flush()


def watched(command: list[str]) -> dict:
    """Run a command; its seconds, and the peaks of its anonymous and of all its resident memory, in MiB."""
    begin = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peaks = {"RssAnon": 0, "VmHWM": 0}
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text().split("\n")
        except OSError:
            break
        for line in status:
            name, _, rest = line.partition(":")
            if name in peaks:
                peaks[name] = max(peaks[name], int(rest.split()[0]))
        time.sleep(0.05)
    errors = child.communicate()[1]
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}\n{errors[-2000:]}")
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "anonymous_mib": round(peaks["RssAnon"] / 1024, 1),
        "resident_mib": round(peaks["VmHWM"] / 1024, 1),
    }


def job(method: str, data: str, folder: Path, rows: int) -> dict:
    """Fit, then predict to Parquet."""
    run, found = folder / f"run-{method}", folder / "found.parquet"
    dcaccel = [sys.executable, "-m", "deepclust_accel"]
    sets = [word for value in SETTINGS[method] for word in ("--set", value)]
    fit = watched([*dcaccel, "fit", method, data, "-k", str(K), "--out", str(run), "--overwrite", "--quiet", *sets])
    record = json.loads((run / "run.json").read_text())
    labels = np.load(run / "labels.npy", mmap_mode="r")[:1_000_000]
    predict = watched([*dcaccel, "predict", str(run), data, "--out", str(found)])
    found.unlink()
    return {
        "method": method,
        "data": Path(data).suffix,
        "rows": rows,
        "fit": fit | {"stages": record["seconds"]},
        "predict": predict,
        "ari_first_million": round(float(adjusted_rand_score(np.arange(len(labels)) % K, labels)), 4),
    }


def main() -> None:
    """Run all jobs and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[40_000_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS))
    parser.add_argument("--parquet", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    os.environ["TMPDIR"] = str(chosen.folder)  # temporary values of all rows belong on a disk, not in a tmpfs
    results = []
    for rows in chosen.rows:
        path = chosen.folder / "rows.npy"
        make(path, rows, chosen.width)
        forms = [str(path)]
        if chosen.parquet:
            forms.append(str(path.with_suffix(".parquet")))
            subprocess.run([sys.executable, "-m", "deepclust_accel", "data", "convert", forms[0], forms[1]], check=True)
        for data in forms:
            for method in chosen.methods:
                results.append(job(method, data, chosen.folder, rows))
                print(json.dumps(results[-1]), flush=True)
        for data in forms:
            Path(data).unlink()
    if chosen.out:
        chosen.out.write_text(json.dumps({"width": chosen.width, "clusters": K, "jobs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
