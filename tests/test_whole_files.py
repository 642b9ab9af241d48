"""Files are whole or absent, whatever stops the writing."""

import pytest

from deepclust_accel.errors import OutputError
from deepclust_accel.files import write_atomic


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
