"""Sources hand out the right rows in the stored dtype, refuse what is no table of numbers, and never copy the whole."""

import numpy as np
import pytest
import torch

from deepclust_accel.data import ArraySource, DataSource, DataSpec, Loader, Scaling, check_finite, fingerprint
from deepclust_accel.errors import DataError


def anonymous_mib():
    """Memory of this process that is not backed by a file: what a copy would cost."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024
    except (OSError, StopIteration):
        pytest.skip("needs /proc/self/status of Linux")


@pytest.mark.parametrize("dtype", "u1 i1 u2 i2 i4 i8 u4 u8 f2 f4 f8 >f4 >i2 >f8".split())
def test_take_returns_the_rows_in_the_stored_dtype(dtype):
    array = np.arange(30).reshape(10, 3).astype(dtype)
    index = np.array([7, 0, 7, 9])
    rows = ArraySource(array).take(index)
    assert str(rows.dtype) == f"torch.{array.dtype.newbyteorder('=').name}"
    np.testing.assert_array_equal(rows.numpy(), array[index])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float64])
def test_take_of_a_tensor_keeps_its_dtype(dtype):
    tensor = torch.arange(30).reshape(10, 3).to(dtype).requires_grad_(dtype.is_floating_point)
    rows = ArraySource(tensor).take(np.array([3, 1]))
    assert rows.dtype == dtype and not rows.requires_grad
    assert torch.equal(rows, tensor.detach()[[3, 1]])


def test_take_copies_so_that_a_batch_may_be_changed():
    for array in (np.ones((4, 2), np.float32), torch.ones(4, 2)):
        ArraySource(array).take(np.arange(4)).zero_()
        assert array.sum() == 8


def test_booleans_become_bytes_and_long_doubles_float64():
    assert ArraySource(np.array([[True], [False]])).take(np.array([1, 0])).tolist() == [[0], [1]]
    assert ArraySource(torch.tensor([[True], [False]])).take(np.array([1, 0])).tolist() == [[0], [1]]
    assert ArraySource(np.ones((2, 2), np.longdouble)).take(np.array([0])).dtype == torch.float64


@pytest.mark.parametrize(
    "array",
    [np.arange(24.0).reshape(6, 4)[::-1], np.arange(24.0).reshape(4, 6).T, np.arange(48.0).reshape(6, 8)[:, ::2]],
    ids=["reversed", "fortran", "strided"],
)
def test_any_memory_layout(array):
    np.testing.assert_array_equal(ArraySource(array).take(np.array([5, 0, 2])).numpy(), array[[5, 0, 2]])


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_spec(shape):
    source = ArraySource(np.zeros(shape, np.float32))
    assert source.spec == DataSpec(shape[1:], shape[0])
    assert isinstance(source, DataSource)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), "2 to 4 dimensions"),
        (np.zeros(()), "2 to 4 dimensions"),
        (np.zeros((1, 1, 1, 1, 1)), "2 to 4 dimensions"),
        (torch.zeros(3), "2 to 4 dimensions"),
        (np.zeros((0, 3)), "at least one row"),
        (np.zeros((3, 0)), "at least one column"),
        (np.zeros((2, 2), complex), "complex"),
        (torch.zeros(2, 2, dtype=torch.complex64), "real numbers"),
        (np.array([["a", "b"]]), "text"),
        (np.array([[b"a"]]), "text"),
        (np.array([[None, 1]]), "Python objects"),
        (np.array([["2020-01-01"]], "datetime64[D]"), "dates"),
        (np.zeros((2, 2), [("a", "f4")]), "records"),
        (np.ma.masked_array(np.zeros((2, 2)), mask=True), "masked"),
        (torch.eye(3).to_sparse(), "dense"),
        ([[1.0]], "list"),
    ],
)
def test_refuses_with_one_line(array, words):
    with pytest.raises(DataError, match=words) as caught:
        ArraySource(array)
    message = str(caught.value)
    assert "\n" not in message and "expected" in message and "got" in message and ";" in message


def test_a_memory_map_stays_one_and_is_never_read_into_memory(tmp_path):
    path = tmp_path / "large.npy"
    rows, columns = 60_000, 1024  # 234 MiB; the file is sparse
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, columns)).flush()
    start = peak = anonymous_mib()
    source = ArraySource(np.load(path, mmap_mode="r"))
    assert type(source.array) is np.memmap
    loader = Loader(source, seed=0, scaling=Scaling())
    fingerprint(source)
    check_finite(source)
    for kind in ("unit", "standard"):
        Scaling.fit(kind, source)
        peak = max(peak, anonymous_mib())
    for step, batch in enumerate(loader.epoch(stage=0, epoch=1, batch_size=512)):
        assert type(batch.x) is torch.Tensor
        if step % 16 == 0:
            peak = max(peak, anonymous_mib())
    for _ in loader.sequential(batch_size=2048):
        peak = max(peak, anonymous_mib())
    assert peak - start < 120  # of 234: what the process itself allocates meanwhile comes and goes
    assert type(source.array) is np.memmap and source.array.filename == path


def test_fingerprint_depends_on_content_shape_and_dtype_only(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (50, 6)).astype(np.uint8)
    np.save(tmp_path / "a.npy", array)
    expected = fingerprint(ArraySource(array))
    assert len(expected) == 32
    assert fingerprint(ArraySource(torch.from_numpy(array))) == expected
    assert fingerprint(ArraySource(np.load(tmp_path / "a.npy", mmap_mode="r"))) == expected
    assert fingerprint(ArraySource(np.asfortranarray(array))) == expected
    changed = array.copy()
    changed[31, 2] ^= 1
    others = [changed, array[:-1], array.reshape(50, 2, 3), array.astype(np.int16), array[::-1].copy()]
    assert len({expected, *(fingerprint(ArraySource(other)) for other in others)}) == 1 + len(others)


def test_fingerprint_of_large_data_reads_a_bounded_sample():
    class Counting(ArraySource):
        taken = 0

        def take(self, index):
            self.taken += len(index)
            return super().take(index)

    source = Counting(np.zeros((200_000, 128), np.float32))  # 98 MiB
    before = fingerprint(source)
    assert source.taken <= 4100
    source.array[-1, 0] = 1.0
    assert fingerprint(source) != before
