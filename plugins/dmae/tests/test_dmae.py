"""dmae keeps the contract, and its loss is that of a double loop over rows and clusters."""

import math

import pytest
import torch
from dcaccel_dmae import DISSIMILARITIES, DissimilarityMixture
from scipy.spatial import distance

from deepclust_accel.testing.methods import check_method

QUICK = {"hidden": (64,), "latent_dim": 4, "pretrain_epochs": 30, "pretrain_batch_size": 32, "epochs": 3, "n_init": 3}
SCIPY = {
    **{name: getattr(distance, name) for name in DISSIMILARITIES if name != "manhattan"},
    "manhattan": distance.cityblock,
}


@pytest.mark.parametrize("dissimilarity", ["euclidean", "cosine"])
def test_it_conforms(dissimilarity):
    params = {**QUICK, "pretrain_learning_rate": 5e-3, "dissimilarity": dissimilarity, "batch_size": 32}
    assert not [str(check) for check in check_method("dmae", params=params) if check.problem]


def example(dissimilarity, alpha, k=3):
    torch.manual_seed(0)
    mixture = DissimilarityMixture(k, 4, dissimilarity, alpha).double()
    with torch.no_grad():
        mixture.positions.normal_()
        mixture.logits.normal_()
    return mixture, torch.randn(5, 4, dtype=torch.float64)


@pytest.mark.parametrize("dissimilarity", DISSIMILARITIES)
def test_loss_is_that_of_a_double_loop_with_scipys_distances(dissimilarity):
    mixture, z = example(dissimilarity, alpha=1.7)
    delta, centers = SCIPY[dissimilarity], mixture.positions.detach().numpy()
    total = sum(map(math.exp, mixture.logits.tolist()))
    pi = [math.exp(value) / total for value in mixture.logits.tolist()]
    expected_center, got = mixture(z)
    for i, row in enumerate(z.numpy()):
        weights = [p * math.exp(-1.7 * delta(row, m)) for p, m in zip(pi, centers, strict=True)]
        shares = [w / sum(weights) for w in weights]
        center = sum(s * m for s, m in zip(shares, centers, strict=True))
        loss = delta(row, center) - math.log(sum(s * p for s, p in zip(shares, pi, strict=True))) / 1.7
        assert abs(got[i].item() - loss) < 1e-6
        assert torch.allclose(mixture.shares(z)[i], torch.tensor(shares, dtype=torch.float64))
        assert torch.allclose(expected_center[i], torch.from_numpy(center))


def test_one_cluster_expects_its_own_center():
    mixture, z = example("euclidean", alpha=1.0, k=1)
    center, loss = mixture(z)
    assert torch.equal(center, mixture.positions.expand_as(z))
    assert torch.allclose(loss, torch.cdist(z, mixture.positions)[:, 0])


def test_a_large_alpha_assigns_the_nearest_center_and_charges_its_distance():
    mixture, z = example("euclidean", alpha=1e4)
    distances = torch.cdist(z, mixture.positions)
    assert torch.equal(mixture.shares(z).argmax(1), distances.argmin(1))
    assert torch.allclose(mixture(z)[1], distances.amin(1), atol=1e-3)


@pytest.mark.parametrize("dissimilarity", DISSIMILARITIES)
def test_gradients_are_finite_where_a_code_is_a_center(dissimilarity):
    mixture, z = example(dissimilarity, alpha=100.0)
    z = torch.cat([mixture.positions.detach(), z]).requires_grad_()
    mixture(z)[1].sum().backward()
    assert all(g.isfinite().all() for g in (z.grad, mixture.positions.grad, mixture.logits.grad))
