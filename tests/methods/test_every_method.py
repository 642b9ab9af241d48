"""What every built-in method can do, in all its variants: fit, predict new rows, save and load, resume bit for bit."""

import signal

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from deepclust_accel import DeepClusterer, fitting
from deepclust_accel.config import describe, from_mapping
from deepclust_accel.data import ArraySource
from deepclust_accel.engine.monitor import Watcher
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods import registry

AE = {
    "hidden": (64,),
    "latent_dim": 4,
    "pretrain_epochs": 30,
    "pretrain_batch_size": 32,
    "pretrain_learning_rate": 5e-3,
}
FEW = {"n_init": 3, "batch_size": 32, "epochs": 3}
JOINT = {**AE, **FEW}
SELF = {**JOINT, "stop_changed_fraction": 0.0}
MODULE = {**JOINT, "module_epochs": 3, "latent_dim": None}
IMAGES = {"channels": (16, 32), "kernels": (3, 3)}
RESIDUAL = {
    "latent_dim": 6,
    "embed_dim": 4,
    "channels": (16, 16),
    "discriminator_channels": (4,),
    "embedding_hidden": (16,),
}
FUSION = {**RESIDUAL, "pretrain_epochs": 20, "epochs": 5, "batch_size": 32, "learning_rate": 2e-3, "gan_weight": 1.0}
MLP_AE = {key: value for key, value in AE.items() if key != "hidden"}

# (method, variant) → settings that make it quick
CASES = {
    ("kmeans", ""): {"n_init": 2},
    ("gmm", ""): {"covariance": "diag", "variance_floor": 1e-2},
    ("pca-kmeans", ""): {"n_init": 2},
    ("ae-kmeans", ""): {**AE, "n_init": 3},
    ("ae-gmm", ""): {**AE, "covariance": "diag"},
    ("dvae", ""): {**JOINT, "classifier_steps": 600, "warmup_epochs": 1, "learning_rate": 3e-4},
    ("vade", ""): JOINT,
    ("vade", "as its code"): {**JOINT, "posterior_share": None, "initializer": "kmeans"},
    ("dec", ""): SELF,
    ("dec", "refreshed in steps"): {**SELF, "update_every_steps": 4, "optimizer": "adam"},
    ("dec", "agglomerative"): {**SELF, "initializer": "AgglomerativeClustering(linkage='average')"},
    ("idec", ""): SELF,
    ("idec", "stacked"): {**SELF, "pretraining": "stacked", "layer_epochs": 2, "optimizer": "sgd"},
    ("dec-da", ""): SELF,
    ("idec-da", ""): {**SELF, "zoom": 0.1, "shear": 5.0},
    ("dcec", ""): {**MLP_AE, **FEW, **IMAGES},
    ("depict", ""): {**IMAGES, **FEW, "pretrain_epochs": 30, "warmup_epochs": 2},
    ("dcn", ""): JOINT,
    ("dcn", "sgd"): {**JOINT, "optimizer": "sgd"},
    ("dkm", ""): JOINT,
    ("dkm", "annealed"): {**JOINT, "variant": "annealed", "alpha_values": 4, "alpha_epochs": 2},
    ("k-dae", ""): {**JOINT, "expert_hidden": (16,), "expert_latent_dim": 2, "expert_epochs": 30},
    ("cm", ""): {"batch_size": 32, "epochs": 30},
    ("cm", "random"): {"batch_size": 32, "epochs": 3, "initialization": "random", "alpha": (2.0, 3.0, 4.0)},
    ("ae-cm", ""): MODULE,
    ("ae-cm", "random"): {**MODULE, "initialization": "random"},
    ("ae-cm", "normalized"): {**MODULE, "reduction": "normalized", "orthogonality": "squared", "bias": False},
    ("dahal", ""): {**JOINT, "embedding_hidden": (16,), "embed_dim": 4},
    ("dcfae", ""): FUSION,
    ("dcfae", "vectors"): {**FUSION, "networks": "vectors", "decoder": "gaussian"},
    ("dcfae", "without gan"): {**FUSION, "gan_weight": 0.0, "embedding_dropout": 0.2, "embedding_l2": 1e-3},
    ("dcfae", "without similarity"): {**FUSION, "similarity_weight": 0.0, "residual_blocks": False},
    ("aae", ""): {"hidden": (32,), "latent_dim": 3, "epochs": 3, "batch_size": 32},
}
NOT_FROM_CLUSTERS = {("dkm", "annealed"), ("cm", "random"), ("ae-cm", "random"), ("aae", "")}  # too short to find any


@pytest.fixture(scope="module")
def images():
    digits = load_digits(n_class=3)
    return (digits.images[:300] / 16).astype(np.float32), digits.target[:300]


@pytest.fixture(params=CASES, ids=lambda case: " ".join(case).strip())
def case(request):
    return request.param


def clusterer(case):
    return DeepClusterer(case[0], 3, params=CASES[case], random_state=0)


def test_every_built_in_method_is_here():
    ours = {entry.name for entry in registry.entries() if entry.distribution == "deepclust-accel"}
    assert {name for name, _ in CASES} == ours


def test_fits_predicts_saves_and_loads(case, images, tmp_path):
    X, y = images
    model = clusterer(case).fit(X[:240])
    assert set(model.labels_) <= {0, 1, 2}
    if case not in NOT_FROM_CLUSTERS:
        assert adjusted_rand_score(y[:240], model.labels_) > 0.4  # chance is 0
    new = X[240:]
    codes, probabilities = model.transform(new), model.predict_proba(new)
    assert codes.dtype == np.float32 and np.isfinite(codes).all()
    assert probabilities.shape == (60, 3) and np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(1), model.predict(new))
    assert np.array_equal(model.transform(new[5:6]), codes[5:6])  # whoever stands beside it
    if hasattr(model, "cluster_centers_"):
        assert model.cluster_centers_.shape[0] == 3
    model.save(tmp_path / "model")
    again = DeepClusterer.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(new), probabilities) and np.array_equal(again.transform(new), codes)


class InterruptAfterAnEpoch(Watcher):
    def end_epoch(self, record):
        signal.raise_signal(signal.SIGINT)


def test_interrupted_after_every_epoch_and_resumed_is_bit_equal(case, images, tmp_path):
    source = ArraySource(images[0][:120])
    short = {name: min(value, 2) if name.endswith("epochs") else value for name, value in CASES[case].items()}
    short |= {"classifier_steps": 8} if case[0] == "dvae" else {}
    params = from_mapping(registry.load(case[0]).Params, short)
    settings = fitting.Settings(case[0], 3, params, seed=1)
    whole, sessions, result = fitting.fit(settings, source), 0, None
    while result is None:
        sessions += 1
        try:
            result = fitting.fit(settings, source, checkpoint=tmp_path, resume=True, watcher=InterruptAfterAnEpoch())
        except KeyboardInterrupt:
            assert sessions < 50
    assert sessions > len(whole.history) - 1
    wanted, got = whole.model.network.state_dict(), result.model.network.state_dict()
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[name], got[name]) for name in wanted)
    timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in x.history] for x in (whole, result)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_a_method_says_who_wrote_it_and_documents_every_setting(name):
    cls = registry.load(name)
    assert cls.info.name == name and cls.info.paper and cls.info.summary
    assert all(row["help"] for row in describe(cls.Params))
    assert all(word in cls.__doc__.lower() for word in ("cost", "assum"))


def test_methods_for_images_learn_the_shape_of_a_row_from_the_data_or_a_setting(images, tmp_path):
    X, flat = images[0], images[0].reshape(len(images[0]), -1)
    settings = {**CASES["dcec", ""], "pretrain_epochs": 1, "epochs": 1}
    by_axes = DeepClusterer("dcec", 3, params=settings, random_state=0).fit(X)
    by_setting = DeepClusterer("dcec", 3, params={**settings, "image_shape": (8, 8)}, random_state=0).fit(flat)
    assert np.array_equal(by_axes.transform(X), by_setting.transform(flat))
    with pytest.raises(
        ArgumentError, match="image_shape: expected that of a row, since dcec looks at images, got rows of"
    ):
        DeepClusterer("dcec", 3, params=settings).fit(flat)

    named = DeepClusterer("dcec", 10, params={**settings, "n_init": 1}, random_state=0).fit(
        "digits"
    )  # its entry says 8 x 8
    named.save(tmp_path / "named")
    rows = load_digits().data[:5]
    assert np.array_equal(DeepClusterer.load(tmp_path / "named").transform(rows), named.transform(rows))
