"""frozen: gradients by the input are those of the network as it is, and its parameters get none."""

import pytest
import torch
from torch import nn

from deepclust_accel.nn.frozen import frozen
from deepclust_accel.nn.residual import ResidualEncoder


def test_the_input_learns_and_the_network_does_not():
    torch.manual_seed(0)
    network = ResidualEncoder((1, 8, 8), (4, 4), (1,))
    network.heads[0].bias.requires_grad_(False)
    x = torch.rand(5, 1, 8, 8, requires_grad=True)
    (expected,) = torch.autograd.grad(network(x)[0].sum(), x)
    with frozen(network):
        value = network(x)[0].sum()
    value.backward()
    torch.testing.assert_close(x.grad, expected)
    assert all(p.grad is None for p in network.parameters())
    assert [p.requires_grad for p in network.heads[0].parameters()] == [True, False]


def test_what_was_frozen_learns_again_whatever_happens_inside():
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    with pytest.raises(KeyboardInterrupt), frozen(one, other):
        raise KeyboardInterrupt
    assert all(p.requires_grad for network in (one, other) for p in network.parameters())
