"""Random numbers that depend on (seed, stage, epoch, rank) only, and leave the caller's generators untouched.

Nothing about randomness needs to be stored in a checkpoint: an epoch that is run again draws the same numbers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derive_seed", "isolated"]


def derive_seed(*path: int | str) -> int:
    """Return a 63-bit seed that is a fixed function of the path, e.g. ``derive_seed(seed, "noise", stage, epoch)``."""
    digest = hashlib.blake2b("/".join(map(str, path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


# Torch's global generators are one thing for all threads: of two fits, one has to wait.
_GENERATORS = threading.RLock()


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and restore the caller's state afterwards.

    One thread at a time; others wait at the door.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # manual_seed seeds all of them
    with _GENERATORS, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
