"""The scikit-learn face: DeepClusterer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch.utils.data import Dataset

from deepclust_accel import fitting, runs
from deepclust_accel.config import Params, resolve, to_mapping
from deepclust_accel.data import ArraySource, DataSource, open_data
from deepclust_accel.engine.checkpoint import Checkpoint
from deepclust_accel.engine.monitor import History
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods import registry
from deepclust_accel.pretrained import pretrained_from

__all__ = ["DeepClusterer"]


class DeepClusterer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster rows with any installed deep clustering method.

    Args:
        method: registered name; ``dcaccel methods list`` shows them.
        n_clusters: K, between 1 and the number of rows.
        params: the method's settings as its Params dataclass or a mapping; None for its defaults.
        scaling: "none", "unit" (smallest value to 0, largest to 1) or "standard" (each column to mean 0, deviation 1);
            fitted with the model, saved with it, applied again at predict. None for what a named data set advises, which
            is what the command line does, and "none" for everything else.
        batch_size: rows per step, for every setting of the method whose name ends in batch_size; None for its own.
        device: "auto", "cpu", "cuda" or "cuda:<number>".
        precision: "32-true" or "bf16-mixed".
        compile: whether training steps call the networks through torch.compile; same results to float tolerance, first
            steps that take half a minute, and on CPUs nothing saved (docs/faq.md has the figures). A network that cannot be
            compiled runs as it is, with a FallbackWarning.
        checkpoint: folder for snapshots while a fit is under way; a fit that finds one there continues it. Needs a
            random_state. None for no snapshots.
        pretrained: None; "cache", to take the networks of an equal pretraining done before and to keep these, in the user's
            cache folder; or the folder of a run whose networks replace pretraining.
        random_state: a whole number, a NumPy RandomState, or None for another seed at every fit. Global generators are
            neither read nor changed.

    Attributes:
        labels_: (N,) int64 cluster of each training row.
        cluster_centers_: (K, Z) in the space of ``transform``; only for methods that have centers.
        history_: one dict an epoch with the mean of every loss term.
        health_: one dict before the first stage and after each (``deepclust_accel.health.examine``).
        n_features_in_: values in a row.
        model_: the fitted :class:`deepclust_accel.fitting.Model`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from deepclust_accel import DeepClusterer
        >>> X = load_digits().data
        >>> model = DeepClusterer("ae-kmeans", 10, params={"pretrain_epochs": 2, "layer_epochs": 1}, scaling="unit",
        ...                       random_state=0).fit(X)
        >>> model.predict(X[:3]).shape, model.transform(X[:3]).shape
        ((3,), (3, 10))
    """

    def __init__(
        self,
        method: str = "dvae",
        n_clusters: int = 8,
        *,
        params: Params | Mapping[str, Any] | None = None,
        scaling: str | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        precision: str = "32-true",
        compile: bool = False,
        checkpoint: str | Path | None = None,
        pretrained: str | Path | None = None,
        random_state: Any = None,
    ):
        self.method = method
        self.n_clusters = n_clusters
        self.params = params
        self.scaling = scaling
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.compile = compile
        self.checkpoint = checkpoint
        self.pretrained = pretrained
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> DeepClusterer:
        """Fit to rows X: array-like (N, D) or images (N, …), tensor, torch Dataset, DataSource, path or name of data.

        ``y`` is ignored; it is there for scikit-learn's sake.
        """
        if self.checkpoint is not None and self.random_state is None:
            raise ArgumentError(
                "checkpoint: expected a random_state to resume with, got None; set one, such as random_state=0"
            )
        advised = "none"
        if isinstance(X, (str, Path)):
            data = open_data(X)
            X, advised = data.source, data.scaling
        source = self._source(X, fitting_now=True)
        scaling = advised if self.scaling is None else self.scaling
        settings = fitting.Settings(
            self.method,
            self.n_clusters,
            self._params(),
            scaling,
            self._seed(),
            self.device,
            self.precision,
            self.compile,
        )
        folder = None if self.checkpoint is None else Path(self.checkpoint)
        given = pretrained_from(self.pretrained, scaling, source.spec.shape)
        result = fitting.fit(settings, source, checkpoint=folder, resume=folder is not None, pretrained=given)
        self.model_, self.history_, self.health_ = result.model, result.history, result.health
        self.labels_ = self.model_.predict(source)
        self._set_centers()
        if folder is not None:
            Checkpoint(folder, {}).remove()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the cluster (N,) int64 of each row; X as in :meth:`fit`, with rows of the same shape."""
        return self._fitted().predict(self._source(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return cluster probabilities (N, K) float32; rows sum to 1, and are one-hot for hard methods such as k-means."""
        return self._fitted().probabilities(self._source(X))

    def transform(self, X: Any) -> np.ndarray | torch.Tensor:
        """Return the codes (N, Z) float32; a tensor when X is one."""
        codes = self._fitted().embed(self._source(X))
        return torch.from_numpy(codes) if isinstance(X, torch.Tensor) else codes

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the fitted model to a folder (safetensors and JSON).

        Raises:
            OutputError: the folder holds another run (unless ``overwrite``) or cannot be written.
        """
        model, folder = self._fitted(), Path(path)
        runs.claim(folder, overwrite=overwrite)
        runs.write_record(folder, {"status": "running"})  # a save that is cut off can be told from a finished one
        runs.write_array(folder / "labels.npy", np.asarray(self.labels_))
        History(folder / runs.HISTORY).restart(self.history_)
        record = {"status": "finished", "health": self.health_, "versions": fitting.versions()}
        runs.write_record(folder, record | {"model": runs.save_model(folder, model)})

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> DeepClusterer:
        """Read a model written by :meth:`save` or by ``dcaccel fit --out``.

        Raises:
            ResumeError: missing or damaged files. PluginError: the method is not installed.
        """
        folder = Path(path)
        model = runs.load_model(folder, device)
        s = model.settings
        self = cls(
            s.method,
            s.n_clusters,
            params=s.params,
            scaling=s.scaling,
            device=device,
            precision=s.precision,
            random_state=s.seed,
        )
        self.model_ = model
        self.labels_ = runs.read_array(folder / "labels.npy")
        self.history_, self.health_ = runs.read_history(folder), runs.read_record(folder).get("health", [])
        self.n_features_in_ = prod(model.spec.shape)
        self._set_centers()
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]  # codes are float32 whatever comes in
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.model_.embed(ArraySource(np.zeros((1, *self.model_.spec.shape), np.float32))).shape[1]

    def _set_centers(self) -> None:
        centers = self.model_.network.cluster_centers()
        if centers is not None:
            self.cluster_centers_ = centers.detach().cpu().numpy()

    def _fitted(self) -> fitting.Model:
        check_is_fitted(self, "model_")
        return self.model_

    def _params(self) -> Params:
        cls = registry.load(self.method).Params
        given = {} if self.params is None else self.params
        if not isinstance(given, (Mapping, Params)) or isinstance(given, Params) and not isinstance(given, cls):
            raise ArgumentError(f"params: expected a mapping or {cls.__name__}, got {type(given).__name__}")
        layers = [("params", given if isinstance(given, Mapping) else to_mapping(given))]
        if self.batch_size is not None:
            names = [f.name for f in fields(cls) if f.name.endswith("batch_size")]
            if not names:
                raise ArgumentError(
                    f"batch_size: expected None, since method {self.method!r} has no such setting, got {self.batch_size}"
                )
            layers.append(("batch_size", dict.fromkeys(names, self.batch_size)))
        return resolve(cls, layers)[0]

    def _seed(self) -> int:
        if isinstance(self.random_state, (int, np.integer)):
            if self.random_state < 0:
                raise ArgumentError(f"random_state: expected a whole number of at least 0, got {self.random_state}")
            return int(self.random_state)
        if self.random_state is None:
            return int(np.random.default_rng().integers(2**31))
        if not isinstance(self.random_state, np.random.RandomState):
            raise ArgumentError(
                f"random_state: expected None, a whole number or a NumPy RandomState, got {self.random_state!r}"
            )
        return int(self.random_state.randint(2**31 - 1))

    def _source(self, X: Any, fitting_now: bool = False) -> DataSource:
        """Turn any accepted input into a source; plain array-likes go through scikit-learn's own validation."""
        if not fitting_now:
            check_is_fitted(self, "model_")
        if isinstance(X, (str, Path)):
            source = open_data(X).source
        elif isinstance(X, torch.Tensor):
            source = ArraySource(X)
        elif isinstance(X, np.ndarray) and (X.ndim > 2 or isinstance(X, (np.memmap, np.ma.MaskedArray))):
            source = ArraySource(X)
        elif isinstance(X, (DataSource, Dataset)):
            source = open_data(X).source
        else:
            X = validate_data(self, X, reset=fitting_now, dtype="numeric", ensure_min_samples=2 if fitting_now else 1)
            return ArraySource(np.asarray(X))
        if fitting_now:
            self.n_features_in_ = prod(source.spec.shape)
        return source
