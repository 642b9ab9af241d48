"""A network through torch.compile; where that fails it runs as it is, and says so once."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from deepclust_accel.errors import FallbackWarning

__all__ = ["Compiled"]

# One graph for each slice of a network that is pretrained layer by layer: torch's 8 are too few, and beyond its limit it
# would go on without a graph and without a word. What varies is said here, and not what varied in earlier fits of this
# process: those would change the bits.
_DYNAMO = {"recompile_limit": 256, "fail_on_recompile_limit_hit": True, "automatic_dynamic_shapes": False}


class Compiled:
    """A part as training steps call it. The part itself, with its state_dict, stays as it is, and so do all other calls.

    Args:
        name: of the part, for the warning. part: anything that a step calls.

    Attributes:
        state: "compiled", "not called", or why it is not compiled.

    The number of rows is a variable of the graph from the first call on: one compilation for full and ragged batches, and
    the same bits whichever comes first. Random numbers are those of the part itself. Cost of the first call: seconds.
    """

    def __init__(self, name: str, part: nn.Module):
        self._name, self._part, self.state = name, part, "not called"
        self._graph = torch.compile(part, options={"fallback_random": True})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the part gives, to float tolerance."""
        if self._graph is None:
            return self._part(*args, **kwargs)
        try:
            result = self._compiled(args, kwargs)
        except Exception as cause:  # noqa: BLE001 - many types; where it is no fault of the compiler, the part raises it too
            result = self._part(*args, **kwargs)
            self._give_up(cause)
            return result
        self.state = "compiled"
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def _compiled(self, args: tuple, kwargs: dict) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.dim() and len(value) > 1:
                torch._dynamo.maybe_mark_dynamic(value, 0)
        # the backward with the forward, since what fails in the backward could not be done again
        eager = torch._functorch.config.patch(force_non_lazy_backward_lowering=True)
        with torch._dynamo.config.patch(_DYNAMO), eager:
            return self._graph(*args, **kwargs)

    def _give_up(self, cause: Exception) -> None:
        cause = getattr(cause, "inner_exception", cause)
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        self._graph, self.state = None, f"{type(cause).__name__}: {lines[0] if lines else 'no reason given'}"
        warnings.warn(
            f"compile: expected to compile {self._name}, got {self.state}; it runs without",
            FallbackWarning,
            stacklevel=3,
        )
