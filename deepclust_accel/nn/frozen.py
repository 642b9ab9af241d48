"""Networks that judge without learning from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["frozen"]


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """What is computed inside has gradients by the networks' inputs, but not by its parameters.

    For the generator's loss of adversarial methods: an optimizer that does not move them has no use for them, and
    they are a third of its backward.
    """
    learning = [parameter for network in networks for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
