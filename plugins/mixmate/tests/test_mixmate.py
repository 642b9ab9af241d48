"""mixmate keeps the contract; its sparse codes are scikit-learn's, its loss that of a double loop."""

import math

import numpy as np
import pytest
import torch
from dcaccel_mixmate import Dictionaries, Mixmate, MixmateParams, mixture_loss
from sklearn.linear_model import Lasso

from deepclust_accel import DeepClusterer
from deepclust_accel.methods.base import DataSpec
from deepclust_accel.testing.methods import check_method


def test_it_conforms():
    params = {"atoms": 10, "batch_size": 32, "epochs": 3, "n_init": 3}
    assert not [str(check) for check in check_method("mixmate", params=params) if check.problem]


def test_it_conforms_with_a_trained_prior():
    params = {"atoms": 10, "batch_size": 32, "epochs": 3, "n_init": 3, "train_prior": True, "prior_weight": 0.5}
    assert not [str(check) for check in check_method("mixmate", params=params) if check.problem]


def dictionaries(k=2, features=6, **settings):
    torch.manual_seed(0)
    return Dictionaries(k, features, MixmateParams(atoms=4, **settings)).double()


@pytest.mark.parametrize("sparsity", [0.05, 0.3])
def test_many_steps_give_the_lasso(sparsity):
    made = dictionaries(iterations=3000, step_size=0.2, sparsity=sparsity)
    y = torch.randn(3, 6, dtype=torch.float64)
    codes = made.codes(y).detach().numpy()
    for k, atoms in enumerate(made.atoms.detach().numpy()):
        for i, row in enumerate(y.numpy()):  # scikit-learn divides the square error by 2 n, n = 6 values
            lasso = Lasso(alpha=sparsity / 6, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(atoms, row)
            assert np.allclose(codes[k, :, i], lasso.coef_, atol=1e-6)


def test_one_step_is_a_soft_threshold():
    made = dictionaries(iterations=1, step_size=0.5, sparsity=0.4)
    y = torch.randn(3, 6, dtype=torch.float64)
    correlation = 0.5 * torch.einsum("kdm,bd->kmb", made.atoms, y)
    assert torch.allclose(made.codes(y), correlation.sign() * (correlation.abs() - 0.2).clamp_min(0))


def test_loss_is_that_of_a_double_loop():
    made, y = dictionaries(iterations=5).requires_grad_(False), torch.randn(3, 6, dtype=torch.float64)
    made.offsets.copy_(torch.tensor([0.3, -0.2]))
    codes, b = made.codes(y), made.offsets.tolist()
    prior = [math.exp(v) / sum(map(math.exp, b)) for v in b]
    energy = divergence = 0.0
    for i in range(3):
        energies = []
        for k in range(2):
            residual = [y[i, d] - sum(made.atoms[k, d, a] * codes[k, a, i] for a in range(4)) for d in range(6)]
            energies.append(float(sum(r * r for r in residual) + 0.75 * sum(abs(codes[k, a, i]) for a in range(4))))
        weights = [math.exp(b[k] - energies[k]) for k in range(2)]
        shares = [w / sum(weights) for w in weights]
        energy += sum(r * e for r, e in zip(shares, energies, strict=True)) / 3
        divergence += sum(r * math.log(r / p) for r, p in zip(shares, prior, strict=True)) / 3
        assert torch.allclose(made(y)[0][i], torch.tensor(energies, dtype=torch.float64))
    got = mixture_loss(*made(y))
    assert abs(got[0].item() - energy) < 1e-12 and abs(got[1].item() - divergence) < 1e-12


def test_atoms_have_length_one_after_training_and_offsets_stay_put():
    X = np.random.default_rng(0).random((60, 5), np.float32)
    model = DeepClusterer("mixmate", 2, params={"atoms": 3, "epochs": 2, "batch_size": 16}, random_state=0).fit(X)
    found = model.model_.network.dictionaries
    assert torch.allclose(found.atoms.norm(dim=1), torch.ones(2, 3), atol=1e-6)
    assert torch.equal(found.offsets, torch.zeros(2))


def test_parameters_number_clusters_times_values_times_atoms():
    made = Mixmate(MixmateParams(), 10, DataSpec((784,), 70_000))
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 392_000  # as in the paper's code
