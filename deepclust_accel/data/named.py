"""Data sets by name: what is known of each, and where its file is looked for.

Only ``digits`` comes with a dependency. The others are read from ``$DCACCEL_DATA/<name>.npz``, then from the user's
cache, and the few whose OpenML number is certain are fetched, checked and cached. No data travel with this package.
"""

import contextlib
import logging
import os
import socket
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, nearest
from .arrays import read_file
from .labels import as_labels

_log = logging.getLogger("deepclust_accel")
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class NamedSet:
    """What is known of a data set.

    Attributes:
        name: Its name, and that of its file without ``.npz``.
        rows: Number of rows, N.
        columns: Values per row, D.
        classes: Number of classes, K.
        scaling: Advised kind of ``Scaling``.
        about: What a row is, and where the data come from.
        licence: As stated at the source.
        image_shape: (H, W) where a row is a flattened image.
        openml: Number at openml.org, where it is known for certain.
    """

    name: str
    rows: int
    columns: int
    classes: int
    scaling: str
    about: str
    licence: str
    image_shape: tuple[int, int] | None = None
    openml: int | None = None


_UCI = "CC BY 4.0 (UCI)"
_COUNTS = "normalise library size and take log1p first for good results"
_SETS = {
    entry.name: entry
    for entry in (
        NamedSet("digits", 1797, 64, 10, "unit", "handwritten digits 8x8, comes with scikit-learn", _UCI, (8, 8)),
        NamedSet(
            "mnist",
            70000,
            784,
            10,
            "unit",
            "handwritten digits, 60000 training and 10000 test images",
            "CC BY-SA 3.0 as usually stated",
            (28, 28),
            554,
        ),
        NamedSet(
            "fashion-mnist", 70000, 784, 10, "unit", "photographs of clothing, Zalando Research", "MIT", (28, 28), 40996
        ),
        NamedSet(
            "usps",
            9298,
            256,
            10,
            "unit",
            "handwritten digits from envelopes, 7291 training and 2007 test images",
            "none stated",
            (16, 16),
            41082,
        ),
        NamedSet("optdigits", 5620, 64, 10, "unit", "handwritten digits 8x8, UCI", _UCI, (8, 8), 28),
        NamedSet("pendigits", 10992, 16, 10, "unit", "pen strokes of digits, 8 points each, UCI", _UCI, None, 32),
        NamedSet(
            "coil20",
            1440,
            1024,
            20,
            "unit",
            "grey photographs of 20 objects on a turntable, Columbia University",
            "research use",
            (32, 32),
        ),
        NamedSet(
            "reuters10k",
            10000,
            2000,
            4,
            "none",
            "TF-IDF of news stories, rebuilt from RCV1-v2 with the shape of DEC's REUTERS-10K; other documents",
            "research use, cite Lewis 2004",
        ),
        NamedSet("newsgroups20", 18846, 2000, 20, "none", "TF-IDF of posts in 20 newsgroups, bydate", "none stated"),
        NamedSet("searchsnippets", 12340, 2000, 8, "none", "TF-IDF of web search snippets", "none stated"),
        NamedSet("stackoverflow", 20000, 2000, 20, "none", "TF-IDF of question titles", "CC BY-SA"),
        NamedSet("bbc_news", 2225, 2000, 5, "none", "TF-IDF of BBC news stories", "research use"),
        NamedSet("dermatology", 366, 34, 6, "standard", "clinical findings of skin diseases, UCI", _UCI),
        NamedSet("mice_protein", 1080, 77, 8, "standard", "protein levels in mouse cortex, UCI", _UCI),
        NamedSet(
            "wisdm_har",
            5418,
            43,
            6,
            "standard",
            "phone accelerometer features of daily activities, WISDM lab",
            "free for research",
        ),
        NamedSet(
            "pbmc_10x", 4271, 2000, 8, "standard", f"gene counts of blood cells, 10x Genomics; {_COUNTS}", "CC BY 4.0"
        ),
        NamedSet(
            "cite_cbmc", 8617, 2000, 15, "standard", f"gene counts of cord blood cells, GEO; {_COUNTS}", "none stated"
        ),
        NamedSet(
            "mouse_bladder", 2746, 2003, 16, "standard", f"gene counts of mouse bladder cells; {_COUNTS}", "none stated"
        ),
        NamedSet("acm", 3025, 1870, 3, "none", "words of papers, by subject; graph left out", "Apache-2.0 (SDCN)"),
        NamedSet("dblp", 4057, 334, 4, "none", "words of authors, by field; graph left out", "MIT (collection)"),
        NamedSet("citeseer", 3327, 3703, 6, "none", "words of papers, by topic; graph left out", "MIT (collection)"),
        NamedSet("cora", 2708, 1433, 7, "none", "words of papers, by topic; graph left out", "MIT (collection)"),
    )
}


def names() -> list[str]:
    """Names of all known data sets, those ready at hand or downloadable first."""
    return list(_SETS)


def describe() -> list[dict]:
    """One JSON-able dict per data set: the fields of ``NamedSet``, and ``at_hand``: whether a file is here already."""
    return [asdict(entry) | {"at_hand": name == "digits" or _find(name) is not None} for name, entry in _SETS.items()]


def load(name: str, *, download: bool = True) -> tuple[NamedSet, np.ndarray, np.ndarray]:
    """Load a data set, looking in ``$DCACCEL_DATA``, then in the user's cache, then at OpenML.

    Returns:
        Its entry, rows (N, D) in the stored dtype, labels (N,) int64. They are checked against the entry: shape,
        number of classes, finite values.

    Raises:
        DataError: Unknown name; found nowhere; a file or download that is not what the entry says.
    """
    if name not in _SETS:
        hint = nearest(name.lower(), _SETS) or f"; one of {', '.join(_SETS)}"
        raise DataError(f"data {name!r}: expected the name of a data set, got an unknown one{hint}")
    entry = _SETS[name]
    if name == "digits":
        return entry, *_digits()
    path = _find(name)
    if path is not None:
        rows, labels = read_file(path)
        return entry, *_checked(entry, rows, labels, str(path))
    if not download or entry.openml is None:
        raise _nowhere(entry, "neither" if entry.openml is None else "neither, with downloading off")
    rows, labels = _checked(entry, *_fetch(entry), f"openml.org data set {entry.openml}")
    _store(entry, rows, labels)
    return entry, rows, labels


def _folders() -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    given = os.environ.get("DCACCEL_DATA")
    return ([Path(given)] if given else []) + [cache / "deepclust_accel"]


def _find(name: str) -> Path | None:
    return next((path for folder in _folders() if (path := folder / f"{name}.npz").is_file()), None)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.data.astype(np.uint8), digits.target.astype(np.int64)  # whole numbers 0..16 kept as float64 there


def _checked(entry: NamedSet, rows: np.ndarray, labels: np.ndarray | None, where: str) -> tuple[np.ndarray, np.ndarray]:
    expected = f"{entry.name} with X ({entry.rows}, {entry.columns}) and y of {entry.classes} classes"
    todo = "replace that file, or rename it and give its path instead"
    if labels is None:
        raise DataError(f"{where}: expected {expected}, got no y; {todo}")
    if rows.ndim > 2 and len(rows):
        rows = rows.reshape(len(rows), -1)
    classes = len(np.unique(labels))
    if rows.shape != (entry.rows, entry.columns) or classes != entry.classes:
        raise DataError(f"{where}: expected {expected}, got X {rows.shape} and {classes} classes; {todo}")
    if rows.dtype.kind not in "uif" or not np.isfinite(rows).all():
        raise DataError(f"{where}: expected {expected}, got X with values that are not finite numbers; {todo}")
    return rows, labels


def _nowhere(entry: NamedSet, got: str) -> DataError:
    places = " or ".join(str(folder / f"{entry.name}.npz") for folder in _folders())
    return DataError(
        f"{entry.name}: expected {places}{' or OpenML' if entry.openml else ''}, got {got}; put an .npz "
        f"with X ({entry.rows}, {entry.columns}) and y ({entry.rows},) there, or set DCACCEL_DATA to "
        "the folder that holds one"
    )


def _fetch(entry: NamedSet) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import fetch_openml

    _log.info("fetching %s (openml.org data set %d)", entry.name, entry.openml)
    before = socket.getdefaulttimeout()
    try:
        # scikit-learn offers no timeout of its own, and a silent network would hold us for minutes
        socket.setdefaulttimeout(_TIMEOUT_SECONDS)
        fetched = fetch_openml(
            data_id=entry.openml, as_frame=False, parser="liac-arff", cache=False, n_retries=1, delay=0.1
        )
    except Exception as cause:  # no network, HTTP errors, a changed format: all mended in the same way
        reason = " ".join(str(cause).split())[:160]
        raise _nowhere(entry, f"neither, and {type(cause).__name__} from OpenML ({reason})") from cause
    finally:
        socket.setdefaulttimeout(before)
    rows, labels = np.asarray(fetched.data), np.asarray(fetched.target)
    if rows.dtype.kind not in "uif":
        raise _nowhere(entry, f"neither, and {rows.dtype} values from OpenML")
    whole = bool((rows == np.round(rows)).all()) and rows.size > 0 and rows.min() >= 0 and rows.max() <= 255
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    if labels.dtype.kind in "US":
        with contextlib.suppress(ValueError):
            labels = labels.astype(np.int64)  # else "10" would sort before "2"
    labels = np.unique(labels, return_inverse=True)[1]
    return rows.astype(np.uint8 if whole else np.float32), as_labels(labels, len(rows), f"{entry.name} from OpenML: y")


def _store(entry: NamedSet, rows: np.ndarray, labels: np.ndarray) -> None:
    """Put a fetched set into the cache, whole or not at all; a cache that cannot be written only costs a warning."""
    folder = _folders()[-1]
    partial = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{entry.name}-", delete=False) as stream:
            partial = Path(stream.name)
            np.savez_compressed(stream, X=rows, y=labels)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(folder / f"{entry.name}.npz")
    except OSError as cause:
        _log.warning("could not keep %s in %s (%s); it will be fetched again next time", entry.name, folder, cause)
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
