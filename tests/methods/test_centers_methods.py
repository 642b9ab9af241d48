"""dcn, dkm and k-dae: losses by hand, running means one row at a time, limits of the softmax, K networks in a loop."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from standstill import Window, build, one_step, some_rows, stage, updates

from deepclust_accel.methods.dcn import Dcn
from deepclust_accel.methods.dkm import Dkm, annealed_alpha
from deepclust_accel.methods.k_dae import KDae
from deepclust_accel.nn.centers import SoftminCenters, StudentCenters
from deepclust_accel.nn.experts import Experts

SMALL = {"hidden": (9,), "latent_dim": 2, "n_init": 2}


def started(cls, **settings):
    method, x = build(cls, **{**SMALL, **settings}), some_rows()
    with torch.no_grad():
        (method._init_clusters if cls is KDae else method._init_centers)(Window(x))
    return method, x


def square_error(method, x):
    return (torch.sigmoid(method.decoder(method.encoder(x))) - x).double().square().sum(1).mean().item()


def test_the_loss_of_dcn_by_hand():
    method, x = started(Dcn, cluster_weight=0.6)
    with torch.no_grad():
        method.centers.add_(0.05)
    z, centers = method.embed(x).detach().double(), method.centers.double().clone()
    distance = np.mean([min(float((z[i] - c).square().sum()) for c in centers) for i in range(len(x))])
    reconstruction = square_error(method, x)
    found, terms = updates(method, method._refine, x)
    assert terms == pytest.approx({"reconstruction": reconstruction, "clustering": distance}, rel=1e-4)
    assert found[0].loss.item() == pytest.approx(reconstruction + 0.3 * distance, rel=1e-4)


def test_centers_follow_row_by_row():
    """The paper's update, one row after the other, against ours for a batch at once."""
    method, x = started(Dcn)
    z = method.embed(x).detach() + 0.1 * torch.randn(40, 2, generator=torch.Generator().manual_seed(3))
    centers, counts = method.centers.double().clone(), [100, 100, 100]
    labels = torch.cdist(z, method.centers).argmin(1).tolist()
    for row, k in zip(z.double(), labels, strict=True):
        counts[k] += 1
        centers[k] -= (centers[k] - row) / counts[k]
    method._follow(z, Window(x))
    assert method.counts.tolist() == counts and torch.allclose(method.centers.double(), centers, atol=1e-6)


def test_the_annealing_of_dkm_ends_where_the_authors_does():
    assert annealed_alpha(0) == 0.1 and annealed_alpha(1) == pytest.approx(0.1 * 2 ** (1 / math.log(2) ** 2))
    assert annealed_alpha(39) == pytest.approx(28.13, abs=0.005)
    method = build(Dkm, **SMALL, variant="annealed", alpha_values=3, alpha_epochs=2)
    assert [s.name for s in method.plan()] == ["draw-centers", "cluster"]
    seen = []
    for epoch in range(6):
        stage(method, "cluster").before_epoch(Window(some_rows(), epoch=epoch))
        seen.append(method.alpha.item())
    assert seen == pytest.approx([annealed_alpha(e // 2) for e in range(6)])


@pytest.mark.parametrize("alpha", [0.5, 20.0])
def test_the_loss_of_dkm_by_hand(alpha):
    method, x = started(Dkm, cluster_weight=0.3, alpha=alpha)
    loss, terms = one_step(method, method._refine, x)
    z, r = method.embed(x).detach().double().numpy(), method.centers.positions.detach().double().numpy()
    distance = np.array([[((a - b) ** 2).sum() for b in r] for a in z])
    clustering = (softmax(-alpha * distance, 1) * distance).sum(1).mean()
    assert terms["clustering"] == pytest.approx(clustering, rel=1e-4)
    assert loss.item() == pytest.approx(square_error(method, x) + 0.3 * clustering, rel=1e-4)


def test_dkm_with_a_large_alpha_is_dcn():
    soft, x = started(Dkm, alpha=1e6, cluster_weight=0.5)
    hard, _ = started(Dcn)
    hard.load_state_dict(
        {**soft.state_dict(), "centers": soft.centers.positions.detach(), "counts": hard.counts}, strict=False
    )
    assert one_step(soft, soft._refine, x)[0].item() == pytest.approx(
        updates(hard, hard._refine, x)[0][0].loss.item(), rel=1e-4
    )


def test_a_student_kernel_of_many_degrees_of_freedom_is_a_softmax_with_alpha_one_half():
    student, soft, z = StudentCenters(4, 3, dof=1e7), SoftminCenters(4, 3), some_rows(shape=(3,))
    with torch.no_grad():
        for centers in (student, soft):
            centers.positions.copy_(some_rows(4, (3,), seed=5))
    assert torch.allclose(student(z), soft(z, 0.5)[0], atol=1e-5)


def test_experts_are_networks_side_by_side():
    experts, x = Experts(3, 4, 6, 2), some_rows(shape=(4,))
    found = experts(x)
    assert found.shape == (3, 40, 2)
    for k in range(3):
        hidden = torch.relu(x @ experts.weights[0][k] + experts.biases[0][k, 0])
        assert torch.allclose(found[k], hidden @ experts.weights[1][k] + experts.biases[1][k, 0], atol=1e-6)


def test_k_dae_trains_the_best_expert_of_each_row_only():
    method, x = started(KDae, expert_hidden=(5,), expert_latent_dim=2)
    errors = (torch.sigmoid(method.experts(x)) - x).square().mean(2).T
    assert torch.allclose(method.embed(x), errors)
    assert torch.equal(method.assign(errors).argmax(1), errors.argmin(1))
    loss, _ = one_step(method, method._step, x)
    assert loss.item() == pytest.approx(np.mean([min(float(e) for e in row) for row in errors]), rel=1e-5)
    loss.backward()
    chosen = set(errors.argmin(1).tolist())
    assert {k for k in range(3) if method.experts.weights[0].grad[k].abs().sum() > 0} == chosen


def test_k_dae_first_trains_experts_on_their_clusters():
    method, x = started(KDae, expert_hidden=(5,), expert_latent_dim=2)
    labels = torch.cdist(method.encoder(x), method.centers).argmin(1)
    loss, _ = one_step(method, method._first_step, x)
    errors = method.embed(x)
    assert loss.item() == pytest.approx(np.mean([float(errors[i, labels[i]]) for i in range(40)]), rel=1e-5)
