"""What each stage of a fit leaves: ACC % of its clusters, and of k-means on its code; one JSON to stdout.

    python bench/stages.py dvae usps --seed 0 --set pretraining=stacked --set initializer=GaussianMixture

Labels are for these scores only: nothing is chosen by them, and the fit is the one that `dcaccel fit` does. One thread.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch
from sklearn.cluster import KMeans

from deepclust_accel import fitting, metrics
from deepclust_accel.data import Loader, open_data
from deepclust_accel.engine.engine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method")
    parser.add_argument("data", help="name or path with labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs-scale", type=float, default=1.0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(options.data)
    given = dict(text.split("=", 1) for text in options.set)
    params, _ = fitting.resolve_params(options.method, [("--set", given)], options.epochs_scale)
    settings = fitting.Settings(options.method, data.n_clusters, params, data.scaling, options.seed, "cpu")
    spec, runtime, scaling = fitting.prepare(settings, data.source)

    def scored(method, run) -> dict[str, float]:
        codes, shares = zip(*(method.codes_and_shares(batch.x) for batch in run.batches()), strict=True)
        found = KMeans(data.n_clusters, n_init=20, random_state=0).fit_predict(torch.cat(codes).double().numpy())
        assigned = torch.cat(shares).argmax(1).numpy()
        outcome = {
            "assigned": round(100 * metrics.scores(data.labels, assigned)["acc"], 1),
            "kmeans_on_code": round(100 * metrics.scores(data.labels, found)["acc"], 1),
        }
        print(outcome, file=sys.stderr)
        return outcome

    engine = Engine(runtime, seed=options.seed, examine=scored)
    engine.fit(fitting.build(settings, spec), Loader(data.source, seed=options.seed, scaling=scaling))
    json.dump(vars(options) | {"acc": engine.health}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
