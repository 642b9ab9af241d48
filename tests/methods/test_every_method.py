"""Every built-in method, in all its variants, passes the conformance kit that plugins have to pass."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from deepclust_accel import DeepClusterer
from deepclust_accel.errors import ArgumentError
from deepclust_accel.methods import registry
from deepclust_accel.testing.methods import check_method

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
    ("ae-gmm", "tied"): {**AE, "covariance": "tied"},
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


@pytest.fixture
def images():
    digits = load_digits(n_class=3)
    return (digits.images[:300] / 16).astype(np.float32), digits.target[:300]


def test_every_built_in_method_is_here():
    ours = {entry.name for entry in registry.entries() if entry.distribution == "deepclust-accel"}
    assert {name for name, _ in CASES} == ours


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case).strip())
def test_conforms(case):
    minimum = None if case in NOT_FROM_CLUSTERS else 0.4
    checks = list(check_method(case[0], params=CASES[case], minimum_ari=minimum))
    assert len(checks) > 10
    assert not [str(check) for check in checks if check.problem]


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
