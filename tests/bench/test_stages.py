"""bench/stages.py: a line a stage, and what the last says is what a fit with the same settings gets."""

import json
import subprocess
import sys
from pathlib import Path

from sklearn.datasets import load_digits

from deepclust_accel import fitting, metrics
from deepclust_accel.data import open_data

SCRIPT = Path(__file__).parents[2] / "bench" / "stages.py"


def test_the_last_stage_scores_as_the_fit_does():
    given = {"hidden": "16", "pretrain_epochs": "3"}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, SCRIPT, "ae-kmeans", "digits", "--seed", "2", *words], capture_output=True, text=True
    )
    found = json.loads(done.stdout)["acc"]
    assert [line["stage"] for line in found] == ["start", "pretrain", "k-means"]
    data = open_data("digits")
    params, _ = fitting.resolve_params("ae-kmeans", [("test", given)])
    model = fitting.fit(fitting.Settings("ae-kmeans", 10, params, data.scaling, 2, "cpu"), data.source).model
    acc = metrics.scores(load_digits().target, model.predict(data.source))["acc"]
    assert abs(found[-1]["assigned"] - 100 * acc) <= 0.06  # one digit, and another number of threads
    assert found[1]["kmeans_on_code"] == found[2]["kmeans_on_code"]  # of a code that the last stage leaves as it is
