"""Files are whole or absent, whatever stops the writing."""

import pytest

from deepclust_accel.atomic import sweep, write_atomic
from deepclust_accel.errors import OutputError


@pytest.mark.parametrize(
    ("stop", "seen"), [(OSError(28, "No space left on device"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_write_that_stops_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, stop, seen):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def stopped(*args):
        raise stop

    monkeypatch.setattr("os.fsync", stopped)
    with pytest.raises(seen, match="No space left" if seen is OutputError else None):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_was_writing_is_swept_whether_file_or_folder(tmp_path):
    (tmp_path / ".x.npy.123.tmp").write_text("half")
    (tmp_path / ".shards.123.tmp").mkdir()
    (tmp_path / ".shards.123.tmp" / "000000.npy").write_text("half")
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())
