"""The DEC family: targets, divergence and its published gradient, refreshes, the stop rule, clean targets."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from standstill import Window, build, one_step, some_rows, stage

from deepclust_accel.errors import ArgumentError, TrainingError
from deepclust_accel.fitting import resolve_params
from deepclust_accel.methods.dec import Dec
from deepclust_accel.methods.dec_da import DecDa, IdecDa
from deepclust_accel.methods.depict import Depict
from deepclust_accel.methods.idec import Idec
from deepclust_accel.methods.initialization import first_clusters
from deepclust_accel.methods.self_training import Targets, divergence, sharpen

SMALL = {"hidden": (9,), "latent_dim": 2, "n_init": 2}


def assignment(rows=7, k=3, seed=0):
    return torch.rand(rows, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(1)


def placed(cls, x, **settings):
    """A method with centers among its codes and targets refreshed once, elsewhere than its assignment is now."""
    method = build(cls, **SMALL, **settings, shape=x.shape[1:], rows=len(x))
    with torch.no_grad():
        method._init_centers(Window(x))
        method._refresh(Window(x))
        method.centers.positions.mul_(3).add_(0.1)
    return method


@pytest.mark.parametrize(("power", "balance"), [(2.0, 1.0), (1.0, 0.5)])
def test_targets_are_those_of_a_double_loop(power, balance):
    q = assignment()
    p = np.zeros((7, 3))
    for i in range(7):
        for k in range(3):
            p[i, k] = float(q[i, k]) ** power / sum(float(q[j, k]) for j in range(7)) ** balance
        p[i] /= p[i].sum()
    np.testing.assert_allclose(sharpen(q, q.sum(0), power, balance), p, rtol=1e-12)


def test_targets_of_known_assignments():
    sure = torch.eye(3)[[0, 1, 1, 2]]
    assert torch.equal(sharpen(sure, sure.sum(0)), sure)
    undecided = torch.full((4, 3), 1 / 3)
    assert torch.allclose(sharpen(undecided, undecided.sum(0)), undecided)
    nobody = torch.tensor([[0.5, 0.5, 0.0]])  # a cluster that no row has a share of
    assert torch.equal(sharpen(nobody, nobody.sum(0)), nobody)


def test_divergence_is_scipys_and_has_no_gradient_to_its_target():
    p, q = assignment(seed=1).requires_grad_(), assignment(seed=2).requires_grad_()
    loss = divergence(p, q)
    loss.backward()
    assert loss.item() == pytest.approx(rel_entr(p.detach().numpy(), q.detach().numpy()).sum(1).mean(), rel=1e-12)
    assert p.grad is None and q.grad is not None


def test_the_gradient_of_dec_is_the_published_one():
    """Xie et al., eqs. 4 and 5, for one degree of freedom and a sum over rows; ours is a mean. By a double loop."""
    x = some_rows()
    method = placed(Dec, x)
    z = method.embed(x).detach().requires_grad_()
    q, p = method.centers(z), method.targets.rows
    divergence(p, q).backward()
    mu, n = method.centers.positions, len(x)
    dz, dmu = torch.zeros_like(z, dtype=torch.float64), torch.zeros_like(mu, dtype=torch.float64)
    for i in range(n):
        for k in range(3):
            difference = (z[i] - mu[k]).detach().double()
            pull = 2 / (1 + difference.square().sum()) * float(p[i, k] - q[i, k].detach()) * difference
            dz[i] += pull / n
            dmu[k] -= pull / n
    assert torch.allclose(z.grad.double(), dz, atol=1e-8) and torch.allclose(mu.grad.double(), dmu, atol=1e-8)


@pytest.mark.parametrize("dof", [1.0, 3.0])
def test_losses_of_dec_and_idec_by_hand(dof):
    x = some_rows()
    for cls in (Dec, Idec):
        method = placed(cls, x, dof=dof)
        loss, terms = one_step(method, method._refine, x)
        z, p = method.embed(x).double(), method.targets.rows.double()
        w = (1 + (z[:, None] - method.centers.positions).square().sum(2) / dof) ** (-(dof + 1) / 2)
        clustering = rel_entr(p.numpy(), (w / w.sum(1, keepdim=True)).detach().numpy()).sum() / len(x)
        if cls is Dec:
            assert loss.item() == pytest.approx(clustering, rel=1e-5, abs=1e-7)
            continue
        error = (torch.sigmoid(method.decoder(method.embed(x))) - x).double().square().sum().item() / x.numel()
        assert terms["clustering"] == pytest.approx(clustering, rel=1e-5, abs=1e-7)
        assert terms["reconstruction"] == pytest.approx(error, rel=1e-5)
        assert loss.item() == pytest.approx(error + 0.1 * clustering, rel=1e-5)


def test_dec_drops_the_decoder_and_idec_keeps_it():
    assert stage(build(Dec, **SMALL), "cluster").groups["main"].parts == ("encoder", "centers")
    assert stage(build(Idec, **SMALL), "cluster").groups["main"].parts == ("encoder", "decoder", "centers")


def test_refreshes_count_who_moved():
    targets, run = Targets(2), Window(torch.zeros(4, 1))
    first = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
    targets.refresh(first.clone(), run)
    assert float(targets.changed) == 1 and not targets.settled(0.5)
    targets.refresh(first[[0, 2, 2, 3]], run)
    assert float(targets.changed) == 0.25 and targets.settled(0.3) and not targets.settled(0.25)
    assert torch.allclose(targets.rows, sharpen(first[[0, 2, 2, 3]], first[[0, 2, 2, 3]].sum(0)))
    again = Targets(2)
    again.load_state_dict(targets.state_dict())
    assert torch.equal(again.rows, targets.rows) and torch.equal(again.labels, targets.labels)
    targets.forget()
    assert len(targets.rows) == len(targets.labels) == 0


def test_clustering_stops_when_labels_stay():
    from sklearn.datasets import make_blobs

    from deepclust_accel import DeepClusterer

    X, _ = make_blobs(120, 6, centers=3, cluster_std=0.2, random_state=0)
    settings = {**SMALL, "pretrain_epochs": 20, "epochs": 30, "batch_size": 40}
    history = DeepClusterer("idec", 3, params=settings, scaling="standard", random_state=0).fit(X).history_
    done = [r for r in history if r["stage"] == "cluster"]
    assert len(done) < 30 and done[-1]["changed"] < 0.001 and all(r["changed"] >= 0.001 for r in done[:-1])


@pytest.mark.parametrize("cls", [DecDa, IdecDa])
def test_targets_come_from_clean_rows_and_the_assignment_from_distorted_ones(cls):
    x = some_rows(shape=(6, 6))
    method = placed(cls, x, rotation=0.0, shift=0.3)
    clean = method.assign(method.embed(x))
    with torch.no_grad():
        method._refresh(Window(x))
    assert torch.allclose(method.targets.rows, sharpen(clean, clean.sum(0)), atol=1e-6)
    loss, _ = one_step(method, method._refine, x)
    seen = method._inputs(x, Window(x))
    assert seen.shape == x.shape and not torch.allclose(seen, x)
    clustering = divergence(method.targets.rows, method.centers(method.embed(seen)))
    if cls is DecDa:
        assert loss.item() == pytest.approx(clustering.item(), rel=1e-6)
    else:
        error = (torch.sigmoid(method.decoder(method.embed(seen))) - seen.flatten(1)).square().mean()
        assert loss.item() == pytest.approx((error + 0.1 * clustering).item(), rel=1e-6)
    plain = placed(Dec if cls is DecDa else Idec, x)
    assert one_step(plain, plain._refine, x)[0].item() != pytest.approx(loss.item(), rel=1e-6)


def test_depicts_loss_by_hand():
    x = some_rows(rows=9, shape=(6, 5))
    method = build(
        Depict,
        shape=(6, 5),
        rows=9,
        channels=(3,),
        kernels=(3,),
        dropout=(0.4, 0.0),
        layer_weights=(1.0, 0.5),
        latent_dim=2,
    )
    method.targets.rows = assignment(9).float()
    loss, terms = one_step(method, method._refine, x)
    with torch.no_grad():
        keep = torch.rand(9, 1, 6, 5, generator=torch.Generator().manual_seed(1)) >= 0.4
        images = x.view(9, 1, 6, 5)
        conv, head = method.encoder.convolutions[0], method.encoder.head
        act = torch.nn.LeakyReLU(0.01)
        clean, noisy = act(conv(images)), act(conv(images * keep / 0.6))
        z = torch.tanh(head(noisy.flatten(1)))
        hidden = act(method.decoder.head(z).view(clean.shape))
        restored = torch.sigmoid(method.decoder.convolutions[0](hidden))
        errors = [((restored - images) ** 2).mean(), ((hidden - clean) ** 2).mean()]
        p = method.head(z).double().softmax(1)
        clustering = -sum(
            float(method.targets.rows[i, k]) * float(p[i, k].log()) for i in range(9) for k in range(3)
        ) / 9  # fmt: skip
    assert terms["reconstruction_0"] == pytest.approx(float(errors[0]), rel=1e-5)
    assert terms["reconstruction_1"] == pytest.approx(float(errors[1]), rel=1e-5)
    assert terms["clustering"] == pytest.approx(clustering, rel=1e-5)
    assert loss.item() == pytest.approx(clustering + float(errors[0]) + 0.5 * float(errors[1]), rel=1e-5)


def test_any_clusterer_of_scikit_learn_starts_a_method():
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.datasets import make_blobs
    from sklearn.metrics import adjusted_rand_score

    rows, y = make_blobs(90, 3, centers=3, cluster_std=0.3, random_state=1)
    codes = torch.from_numpy(rows).float()
    names = (
        "kmeans",
        "AgglomerativeClustering(linkage='single')",
        "AgglomerativeClustering(linkage=single)",
        "GaussianMixture(covariance_type=tied)",
        "SpectralClustering",
        "BisectingKMeans",
    )
    for name in names:
        centers, labels = first_clusters(codes, 3, Window(codes), initializer=name, n_init=2)
        assert adjusted_rand_score(y, labels) == 1
        means = torch.stack([codes[labels == k].mean(0) for k in range(3)])
        assert torch.allclose(centers, means, atol=1e-5)
    wanted = AgglomerativeClustering(3, linkage="single").fit_predict(rows)
    _, labels = first_clusters(codes, 3, Window(codes), initializer=names[1], n_init=2)
    assert adjusted_rand_score(wanted, labels) == 1


NO_CLUSTERERS = (
    *(
        "DBSCAN",
        "NoSuchThing",
        "KMeans(wrong=1)",
        "KMeans(",
        "KMeans()+1",
        "print('x')",
        "FeatureAgglomeration",
        "kmean",
    ),
    "AgglomerativeClustering(linkage='bogus')",
    "GaussianMixture(covariance_type=bogus)",
    "GaussianMixture(n_components=3)",
    "KMeans(n_clusters=3)",
)


@pytest.mark.parametrize("name", NO_CLUSTERERS)
@pytest.mark.parametrize(("method", "setting"), [("idec", "initializer"), ("dahal", "clusterer")])
def test_what_is_no_clusterer_is_refused_before_any_training(method, setting, name):
    with pytest.raises(ArgumentError, match=f"{setting}: expected kmeans or a clusterer"):
        resolve_params(method, [("--set", {setting: name})])


def test_what_a_clusterer_says_of_codes_it_cannot_use_is_an_error_to_mend():
    codes = some_rows()
    with pytest.raises(TrainingError, match="n_neighbors"):
        wanted = "SpectralClustering(affinity='nearest_neighbors', n_neighbors=500)"
        first_clusters(codes, 3, Window(codes), initializer=wanted, n_init=1)


def test_too_few_clusters_are_refused():
    same = torch.ones(10, 2)
    with pytest.raises(TrainingError, match="expected 3 clusters, got 1"):
        first_clusters(same, 3, Window(same), initializer="KMeans", n_init=1)
