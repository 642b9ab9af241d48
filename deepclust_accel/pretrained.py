"""Where a fit takes pretrained networks from: a cache of the user's, or another run."""

from __future__ import annotations

import os
from pathlib import Path

from deepclust_accel.engine.pretraining import Networks
from deepclust_accel.errors import ArgumentError
from deepclust_accel.runs import load_model

__all__ = ["pretrained_from"]


def pretrained_from(where: str | Path | None, scaling: str, shape: tuple[int, ...]) -> Path | Networks | None:
    """What ``pretrained`` means: "cache" is a folder in the user's cache, anything else the folder of a finished run.

    Raises:
        ResumeError: no finished run there. ArgumentError: its rows had another shape or scaling.
    """
    if where is None:
        return None
    if str(where) == "cache":
        return (
            Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "deepclust_accel" / "pretrained"
        )
    model = load_model(where, "cpu")
    had = (model.settings.scaling, tuple(model.spec.shape))
    if had != (scaling, tuple(shape)):
        raise ArgumentError(
            f"pretrained {where}: expected networks for scaling {scaling!r} and rows of shape {tuple(shape)}, got "
            f"{had[0]!r} and {had[1]}; give a run on the same data"
        )
    return Networks(model.network.parts(), model.network.plan(), str(where))
