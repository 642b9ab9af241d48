"""First clusters of a code: our k-means, or any clusterer of scikit-learn by name."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepclust_accel import ops
from deepclust_accel.cluster.kmeans import kmeans
from deepclust_accel.config import param
from deepclust_accel.engine.run import Run
from deepclust_accel.errors import TrainingError

__all__ = ["draw_seed", "first_clusters", "initializer_param"]


def initializer_param(found: str = "the first clusters") -> Any:
    """A setting that names who finds ``found``; what scikit-learn would refuse is refused before anything is trained."""
    return param(
        "kmeans",
        f"who finds {found}: kmeans (ours, n_init restarts), or a class of sklearn.cluster or sklearn.mixture, with "
        "options if need be: AgglomerativeClustering(linkage=average)",
        check=lambda text: None if text == "kmeans" else _sklearn_clusterer(text, 2, 1, 0),
        ranks="kmeans",
    )


def first_clusters(codes: Tensor, k: int, run: Run, *, initializer: str, n_init: int) -> tuple[Tensor, Tensor]:
    """Cluster codes (n, Z) of this rank into K; returns centers (K, Z), the means, and labels (n,) int64.

    Args:
        initializer: "kmeans", or the name of a scikit-learn clusterer that takes ``n_clusters`` or ``n_components``, with
            or without options in parentheses. K, and where it has them a random state and ``n_init``, are filled in.

    Raises:
        TrainingError: it did not find K clusters, or refuses these codes.

    Cost: k-means O(N K Z) an iteration and restart (beyond a million rows: of the best restart only);
    scikit-learn's clusterers see all codes on one process.
    """
    if initializer == "kmeans":
        index = None if run.world_size == 1 else run.row_numbers()
        found = kmeans(codes, k, generator=run.shared_generator, n_init=n_init, sum_ranks=run.sum_ranks, index=index)
        return found.centers, found.labels.to(codes.device)
    if run.world_size > 1:
        raise TrainingError(f"initializer: expected kmeans on {run.world_size} processes, got {initializer}; use one")
    model = _sklearn_clusterer(initializer, k, n_init, draw_seed(run))
    try:
        found = model.fit_predict(codes.cpu().double().numpy())
    except (ValueError, TypeError, MemoryError) as cause:
        raise TrainingError(f"initializer {initializer}: expected {k} clusters, got {cause}; choose another") from cause
    labels = torch.from_numpy(np.asarray(found)).long().to(codes.device)
    names = labels[labels >= 0].unique()  # a negative label is noise
    if len(names) != k:
        raise TrainingError(f"initializer {initializer}: expected {k} clusters, got {len(names)}; choose another")
    labels = torch.where(labels >= 0, torch.searchsorted(names, labels.clamp_min(0)), -1)
    sums, counts = ops.center_sums(codes[labels >= 0], labels[labels >= 0], k)
    centers = (sums / counts[:, None]).to(codes.dtype)
    return centers, torch.where(labels >= 0, labels, ops.nearest_center(codes, centers)[0])


def draw_seed(run: Run) -> int:
    """A seed for a library that takes an integer, drawn from the run's own generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=run.shared_generator))


def _option(value: ast.expr) -> Any:
    """What an option is set to; a bare word is a string, which saves quotes within quotes on a command line."""
    return value.id if isinstance(value, ast.Name) else ast.literal_eval(value)


def _sklearn_clusterer(text: str, k: int, n_init: int, seed: int) -> Any:
    import sklearn.cluster
    import sklearn.mixture

    try:
        call = ast.parse(text, mode="eval").body
        name = call.func.id if isinstance(call, ast.Call) else call.id
        options = {o.arg: _option(o.value) for o in call.keywords} if isinstance(call, ast.Call) else {}
        cls = getattr(sklearn.cluster, name, None) or getattr(sklearn.mixture, name)
        known = inspect.signature(cls).parameters
        filled = {"n_clusters": k, "n_components": k, "random_state": seed, "n_init": n_init}
        number = next((n for n in ("n_clusters", "n_components") if n in known), None)
        if number is None or number in options:
            raise TypeError(f"{name} takes no number of clusters" if number is None else f"{number} is K")
        kept = {key: value for key, value in filled.items() if key in known}
        if "n_clusters" in known:
            kept.pop("n_components", None)  # of SpectralClustering: eigenvectors
        model = cls(**{**kept, **options})
        model.fit_predict  # noqa: B018 - that of transformers is missing
        model._validate_params()
        return model
    except (SyntaxError, AttributeError, TypeError, ValueError) as cause:
        raise ValueError(
            f"expected kmeans or a clusterer of scikit-learn such as AgglomerativeClustering, got {text!r} ({cause})"
        ) from cause
