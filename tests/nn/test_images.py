"""Layouts of images in rows, distortions against array slicing, and convolutional networks of every size."""

import numpy as np
import pytest
import torch

from deepclust_accel.nn.conv import ConvDecoder, ConvEncoder, halvings
from deepclust_accel.nn.images import ImageLayout, distort
from deepclust_accel.nn.mlp import Mlp
from deepclust_accel.nn.residual import ResidualBlock


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((5, 7), (1, 5, 7, False)),
        ((5, 7, 3), (3, 5, 7, True)),
        ((3, 5, 7), (3, 5, 7, False)),
        ((3, 5, 3), (3, 3, 5, True)),
        ((5, 7, 2), None),
        ((35,), None),
    ],
)
def test_shapes_are_read_as_images(shape, layout):
    found = ImageLayout.of(shape)
    assert found == (None if layout is None else ImageLayout(*layout))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (3, 5, 7)])
def test_rows_become_images_and_back(shape):
    rows = torch.arange(2 * np.prod(shape)).view(2, *shape)
    layout = ImageLayout.of(shape)
    images = layout.to_images(rows.flatten(1))
    assert images.shape == (2, layout.channels, 5, 7)
    at = rows[1, 4, 6, 2] if shape[-1] == 3 else rows[1, 2, 4, 6] if len(shape) == 3 else rows[1, 4, 6]
    assert images[1, -1, 4, 6] == at
    assert torch.equal(layout.to_rows(images), rows.flatten(1))


def numbers(*values):
    """Random numbers (5, 1), the same for all images, that make these fractions of the largest distortions: angle, shear, zoom, right, down."""
    return (torch.tensor(values)[:, None] + 1) / 2


def images():
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_no_distortion_is_the_identity():
    assert torch.allclose(distort(images(), torch.rand(5, len(images()))), images(), atol=1e-5)


@pytest.mark.parametrize("side", [6, 7])
def test_a_quarter_turn_is_numpys(side):
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    turned = distort(x, numbers(1.0, 0.0, 0.0, 0.0, 0.0), rotation=90.0).numpy()
    quarter = [np.rot90(x.numpy(), times, (2, 3)) for times in (1, 3)]
    assert min(np.abs(turned - q).max() for q in quarter) < 1e-5


def test_a_shift_moves_pixels_and_repeats_the_edge():
    x = images()
    shifted = distort(x, numbers(0.0, 0.0, 0.0, 1.0, 0.0), shift=2 / 6)
    assert torch.allclose(shifted[..., :4], x[..., 2:], atol=1e-5)
    assert torch.allclose(shifted[..., 4:], x[..., 5:].expand(-1, -1, -1, 2), atol=1e-5)


def test_an_oblong_image_turns_without_stretching():
    """A half turn is exact at any aspect; a quarter turn keeps distances, so that its middle is the rotated middle."""
    x = torch.rand(1, 1, 4, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(distort(x, numbers(1.0, 0.0, 0.0, 0.0, 0.0), rotation=180.0), x.flip(2, 3), atol=1e-5)
    quarter = distort(x, numbers(1.0, 0.0, 0.0, 0.0, 0.0), rotation=90.0)[0, 0, :, 3:7].numpy()
    middle = x[0, 0, :, 3:7].numpy()
    assert min(np.abs(quarter - np.rot90(middle, times)).max() for times in (1, 3)) < 1e-5


def test_zoom_and_shear_leave_the_middle_and_move_the_rest():
    x = torch.rand(1, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    for drawn, options in ((numbers(0, 0, 1.0, 0, 0), {"zoom": 0.5}), (numbers(0, 1.0, 0, 0, 0), {"shear": 30.0})):
        found = distort(x, drawn, **options)
        assert torch.allclose(found[0, 0, 3, 3], x[0, 0, 3, 3], atol=1e-5)
        assert not torch.allclose(found, x, atol=1e-2)
    larger = distort(x, numbers(0.0, 0.0, 1.0, 0.0, 0.0), zoom=1.0)  # every second place is a pixel of the old image
    assert torch.allclose(larger[0, 0, 1::2, 1::2], x[0, 0, 2:5, 2:5], atol=1e-5)


def test_images_get_distortions_of_their_own_within_their_bounds():
    x = images()[:1].expand(50, -1, -1, -1)
    drawn = torch.rand(5, len(x), generator=torch.Generator().manual_seed(0))
    found = distort(x, drawn, rotation=10.0, shift=0.1, zoom=0.1, shear=5.0)
    assert len({tuple(image.flatten().tolist()) for image in found}) == 50
    assert found.min() >= x.min() - 1e-6 and found.max() <= x.max() + 1e-6


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (8, 8), (9, 14), (28, 28), (5, 32)])
@pytest.mark.parametrize("kernels", [(5, 5, 3), (3, 3, 3)])
def test_convolutions_take_any_size_and_give_it_back(size, kernels):
    shape, channels = (2, *size), (3, 4, 5)
    encoder, decoder = ConvEncoder(shape, channels, kernels, 6), ConvDecoder(shape, channels, kernels, 6)
    x = torch.rand(2, *shape)
    layers = encoder.layers(x)
    assert encoder(x).shape == (2, 6) and decoder(encoder(x)).shape == x.shape
    assert [tuple(h.shape[2:]) for h in layers[:-1]] == halvings(size, 3)[1:]
    assert [h.shape for h in decoder.layers(layers[-1])] == [x.shape, *(h.shape for h in layers[:-1])]


def test_halvings_round_up():
    assert halvings((28, 9), 4) == [(28, 9), (14, 5), (7, 3), (4, 2), (2, 1)]


@pytest.mark.parametrize("dense", [True, False])
def test_a_residual_block_is_two_layers_and_a_skip(dense):
    block = ResidualBlock(4, dense)
    x = torch.randn(3, 4) if dense else torch.randn(3, 4, 5, 5)

    def layer(v, weight, bias):
        function = torch.nn.functional.linear if dense else torch.nn.functional.conv2d
        return function(v, weight, bias, **({} if dense else {"padding": 1}))

    wanted = torch.relu(x + layer(torch.relu(layer(x, block.weight1, block.bias1)), block.weight2, block.bias2))
    assert torch.allclose(block(x), wanted, atol=1e-5)
    assert not block.bias1.any() and block.weight1.std() > 0


def test_leaky_and_dropping_layers():
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    leaky = Mlp(4, 5, 2, slope=0.3)
    hidden = leaky.layers[0](x)
    assert torch.allclose(leaky(x), leaky.layers[1](torch.where(hidden > 0, hidden, 0.3 * hidden)), atol=1e-6)
    dropping = Mlp(4, 5, 2, dropout=0.5)
    assert torch.equal(dropping.eval()(x), dropping(x)) and not torch.equal(dropping.train()(x), dropping(x))
