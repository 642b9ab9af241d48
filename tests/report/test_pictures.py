"""Examples as images: what is in the files, in every layout, and never too much of it."""

import base64
import re
import struct
import zlib

import numpy as np
import pytest
from contents import make
from page_reader import PageReader

from deepclust_accel.report import render
from deepclust_accel.report.examples import as_images
from deepclust_accel.report.png import encode


def decode(data):
    """Pixels of an unfiltered PNG, every checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body, head = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + chunk)
        head, body = (chunk, body) if kind == b"IHDR" else (head, body + chunk if kind == b"IDAT" else body)
        at += 12 + size
    width, height, depth, color = struct.unpack(">IIBB", head[:10])
    assert depth == 8
    lines = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, {0: 1, 2: 3, 6: 4}[color])


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_png_round_trip(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(decode(encode(pixels)).reshape(shape), pixels)


def pictures(shape, image_shape, clusters=4, each=5):
    examples = np.random.default_rng(0).random((clusters, each, *shape)).astype(np.float32)
    return make(
        clusters=clusters,
        examples=examples,
        image_shape=image_shape,
        example_rows=np.arange(clusters * each).reshape(clusters, each),
    )


@pytest.mark.parametrize(
    ("shape", "image_shape", "size"),
    [
        ((64,), (8, 8), (8, 8, 1)),
        ((8, 6), (8, 6), (8, 6, 1)),
        ((8, 6, 3), (8, 6, 3), (8, 6, 3)),
        ((3, 8, 6), (3, 8, 6), (8, 6, 3)),
        ((1, 8, 6), (1, 8, 6), (8, 6, 1)),
        ((8, 6, 1), (8, 6, 1), (8, 6, 1)),
        ((8, 6, 2), (8, 6, 2), (8, 6, 1)),
        ((128, 100), (128, 100), (64, 50, 1)),
        ((1, 500), (1, 500), (1, 62, 1)),
    ],
)
def test_layouts(shape, image_shape, size):
    assert as_images(pictures(shape, image_shape)).shape[2:] == size


def test_channels_first_is_turned_not_reshaped():
    content = pictures((3, 4, 5), (3, 4, 5))
    made = as_images(content).astype(float)
    expected = np.moveaxis(np.asarray(content.examples), 2, -1)
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.999


def test_page_has_a_picture_for_every_example_with_its_row():
    content = pictures((8, 8), (8, 8))
    content.example_rows[1, 3:] = -1
    text = render(content)
    images = PageReader(text).all("img")
    assert len(images) == 4 * 5 - 2 and images[0]["alt"] == "row 0"
    for source in re.findall(r'<img src="data:image/png;base64,([^"]+)"', text):
        assert decode(base64.b64decode(source)).shape == (8, 8, 1)


@pytest.mark.parametrize(("clusters", "side"), [(10, 96), (100, 96), (200, 112)])
def test_many_large_color_pictures_stay_small(clusters, side):
    examples = np.random.default_rng(0).random((clusters, 3, side, side, 3), np.float32)
    content = make(
        clusters=clusters,
        examples=examples,
        example_rows=np.arange(clusters * 3).reshape(clusters, 3),
        image_shape=(side, side, 3),
    )
    assert len(render(content)) < 2_000_000


def test_constant_and_broken_pictures():
    for value in (0.0, np.nan, np.inf):
        content = make(examples=np.full((4, 5, 6), value), image_shape=(2, 3))
        assert np.ptp(as_images(content)) == 0
        PageReader(render(content))
