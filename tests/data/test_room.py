"""Values of all rows lie in memory while they are few, in a file without a name beyond, and behave alike."""

import errno
import os
from pathlib import Path

import pytest
import torch

from deepclust_accel.data import room as module
from deepclust_accel.data.room import pieces, room
from deepclust_accel.errors import OutputError


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_MOST_BYTES", 100)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def mapped(folder):
    return str(folder) in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="maps are read from /proc")
def test_much_lies_in_a_file_that_nothing_is_left_of(small):
    few = room((10, 2), torch.float32)
    assert few.shape == (10, 2) and not mapped(small)
    many = room((40, 2), torch.float64)
    assert many.shape == (40, 2) and many.dtype == torch.float64 and mapped(small) and not list(small.iterdir())
    many[:] = torch.arange(80.0).view(40, 2)
    assert float(many.sum()) == 80 * 79 / 2 and torch.equal(many[[3, 39]], torch.tensor([[6.0, 7], [78, 79]]).double())
    del many
    assert not mapped(small)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is not reserved beforehand here")
def test_a_full_disk_is_said(small, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="expected room for 0.0 GB .* No space left on device; .*TMPDIR"):
        room((1000,), torch.int64)
    assert not list(small.iterdir())


def test_pieces_cover_all_rows_once(monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 48)
    for rows in (0, 1, 6, 7, 12, 13):
        values = torch.arange(rows * 2.0).view(rows, 2)
        found = [values[piece] for piece in pieces(values)]
        assert all(len(part) <= 6 for part in found) and torch.equal(torch.cat([values[:0], *found]), values)
