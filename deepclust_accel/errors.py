"""Errors that are the user's to mend: one line each, ``what: expected …, got …; what to do``.

The command line prints them without a traceback and exits with code 2. Anything else that escapes is a defect of ours.
"""

import difflib
from collections.abc import Iterable


class DcaccelError(Exception):
    """Base of every error that a change of input, settings or environment can mend."""


class ArgumentError(DcaccelError, ValueError):
    """A parameter, option or configuration entry has a value that cannot be used."""


class DataError(DcaccelError, ValueError):
    """Rows or labels are missing, unreadable or unfit for clustering."""


class OutputError(DcaccelError, OSError):
    """A result could not be written: folder taken, not writable, disk full."""


class PluginError(DcaccelError):
    """A method is unknown, offered twice, fails to import, or does not keep the contract of methods."""


class ResumeError(DcaccelError):
    """A checkpoint or saved model is damaged, or belongs to another run."""


class FallbackWarning(UserWarning):
    """A run goes on in another way than was asked for, with the same result or nearly so."""


class ResumeWarning(FallbackWarning):
    """A run goes on, but not as if nothing had happened: from an older snapshot, or in another number of processes."""


class TrainingError(DcaccelError):
    """Training could not go on, for example because a loss stopped being finite."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the known name most like this one, or nothing if none is like it."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
