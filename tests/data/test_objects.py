"""Images and Python objects as rows: what they hold, in order, and one line for what is no row."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from deepclust_accel import DeepClusterer
from deepclust_accel.data import Loader, from_batches, open_data
from deepclust_accel.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 6, 8, 3)).astype(np.uint8)
ROWS = RNG.normal(size=(60, 4)).astype(np.float32)
ROWS[:30] += 4


@pytest.fixture
def photos(tmp_path):
    for i, pixels in enumerate(PIXELS):
        folder = tmp_path / "photos" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    return tmp_path / "photos"


def all_rows(spec):
    source = open_data(spec).source
    return source.take(np.arange(source.spec.rows)).numpy()


def refusal(spec, *words):
    with pytest.raises(DataError) as caught:
        all_rows(spec)
    assert "\n" not in str(caught.value) and "expected" in str(caught.value) and "got" in str(caught.value)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_images_are_their_pixels_and_folders_no_labels(photos):
    data = open_data(photos)
    order = [*range(1, 12, 2), *range(0, 12, 2)]  # cat before dog
    np.testing.assert_array_equal(all_rows(photos), PIXELS[order])
    assert all_rows(photos).dtype == np.uint8 and data.labels is None and data.image_shape == (6, 8, 3)
    found = {
        i: x
        for b in Loader(data.source, seed=0).epoch(stage=0, epoch=0, batch_size=5)
        for i, x in zip(b.index.tolist(), b.x, strict=True)
    }
    for i, x in found.items():
        np.testing.assert_array_equal(x.numpy(), PIXELS[order[i]])
    assert len(found) == 12


def test_images_resized(photos):
    assert all_rows(f"{photos}::3x4").shape == (12, 3, 4, 3) and all_rows(f"{photos}::3x4x1").shape == (12, 3, 4)
    np.testing.assert_array_equal(all_rows(f"{photos}::6x8"), all_rows(photos))
    Image.fromarray(PIXELS[0, :5]).save(photos / "odd.png")
    refusal(photos, "odd.png", "8 x 6 pixels of kind RGB, as in 01.png", "got 8 x 5 pixels", "::32x32")
    assert all_rows(f"{photos}::6x8").shape == (13, 6, 8, 3)
    refusal(f"{photos}::6", "32x32x1")
    refusal(f"{photos}::0x4", "32x32x1")


def test_images_that_cannot_be_rows(photos):
    path = photos / "cat" / "03.png"
    Image.fromarray(PIXELS[0, :, :, 0]).save(path)
    refusal(photos, "03.png", "got kind L")
    Image.fromarray(PIXELS[0]).save(path)
    path.write_bytes(path.read_bytes()[:60])
    refusal(photos, "03.png")
    path.write_bytes(b"not an image")
    refusal(photos, "03.png", "cannot identify")
    path.write_bytes(b"")
    refusal(photos, "empty file")


def test_without_pillow(photos, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    refusal(photos, "expected PIL to be installed", 'pip install "deepclust_accel[images]"')


def test_a_dataset_fits_as_its_array_does():
    given = {"hidden": [8], "latent_dim": 2, "pretrain_epochs": 2, "n_init": 2}
    model = DeepClusterer("ae-kmeans", 2, params=given, random_state=0)
    dataset = TensorDataset(torch.from_numpy(ROWS), torch.arange(60))
    np.testing.assert_array_equal(all_rows(dataset), ROWS)
    codes = model.fit(ROWS).transform(ROWS)
    np.testing.assert_array_equal(model.fit(dataset).transform(dataset), codes)


class Uneven(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


def test_datasets_that_are_no_rows():
    refusal(Uneven([]), "at least one row")
    refusal(Uneven([np.zeros(3), np.zeros(2)]), "(3,)", "(2,)", "item 1")
    refusal(Uneven([np.zeros(3), np.zeros(3, np.float32)]), "float32 as item 1")
    refusal(Uneven([{"x": 1}]), "Python objects")
    refusal(Uneven([np.array(["a"])]), "text")


class Stream(IterableDataset):
    def __iter__(self):
        return iter(ROWS)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "batches",
    [
        lambda: (part for part in np.array_split(ROWS, 7)),
        lambda: DataLoader(TensorDataset(torch.from_numpy(ROWS), torch.arange(60)), batch_size=16),
        lambda: DataLoader(Stream(), batch_size=16),
    ],
)
def test_batches_of_any_iterable(batches, kept, tmp_path):
    source = from_batches(batches(), tmp_path / "x.npy" if kept else None)
    np.testing.assert_array_equal(source.take(np.arange(60)).numpy(), ROWS)
    assert isinstance(source.array, np.memmap) and [p.name for p in tmp_path.iterdir()] == ["x.npy"] * kept
    if kept:
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), ROWS)


def test_iterables_that_are_no_rows(tmp_path):
    refusal((row for row in ROWS), "from_batches")
    refusal(Stream(), "from_batches")
    refusal(list(ROWS), "convert it")
    for batches, word in (
        ([], "none"),
        ([ROWS, ROWS[:, :2]], "after 60 rows"),
        ([ROWS, ROWS.astype(float)], "float64"),
        ([ROWS[0]], "(4,)"),
    ):
        with pytest.raises(DataError, match="batches: expected") as caught:
            from_batches(iter(batches), tmp_path / "x.npy")
        assert word in str(caught.value)
    assert not list(tmp_path.iterdir())
