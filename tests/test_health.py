"""What a run says of its health, against cases whose answer is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from deepclust_accel import DeepClusterer
from deepclust_accel.data import ArraySource, Loader
from deepclust_accel.engine.run import Run
from deepclust_accel.engine.runtime import Runtime
from deepclust_accel.health import ROWS, effective_rank, examine


@pytest.mark.parametrize(("scales", "expected"), [([1, 1, 1], 3), ([1, 0, 0], 1), ([1, 1, 0], 2)])
def test_the_rank_of_known_shapes(scales, expected):
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 3)))[0]
    axes, _ = np.linalg.qr(axes - axes.mean(0))  # centred, orthonormal columns: singular values are the scales
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    z = torch.from_numpy(axes * scales @ turn) + 100.0
    assert effective_rank(z) == pytest.approx(expected, abs=1e-6)


def test_the_rank_of_a_point_is_zero():
    assert effective_rank(torch.full((40, 5), 3.7)) == 0.0


class Given:
    """Embeds rows as they are; cluster 0 takes ``share`` of a row with a positive first value, cluster 1 the rest; 2 nothing."""

    def __init__(self, share):
        self.share = share

    def embed(self, x):
        return x

    def assign(self, z):
        left = torch.where(z[:, 0] > 0, self.share, 1 - self.share)
        return torch.stack([left, 1 - left, torch.zeros_like(left)], 1)

    def codes_and_shares(self, x):
        return self.embed(x), self.assign(x)


def run_over(rows):
    return Run(Runtime("cpu"), Loader(ArraySource(rows), seed=3), 3)


@pytest.mark.parametrize("share", [1.0, 0.9])
def test_every_number_is_the_one_it_says(share):
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    rows[:, 0] += np.where(rows[:, 0] > 0, 3, -3)
    found, positive = examine(Given(share), run_over(rows)), rows[:, 0] > 0
    assert found["empty"] == 1 and found["largest"] == pytest.approx(
        max(positive.mean(), 1 - positive.mean()), abs=1e-4
    )
    entropy = -(share * math.log(share) + (0 if share == 1 else (1 - share) * math.log(1 - share))) / math.log(3)
    assert found["entropy"] == pytest.approx(entropy, abs=1e-4)
    assert found["silhouette"] == pytest.approx(silhouette_score(rows, positive), abs=1e-4)
    assert 1 < found["rank"] < 4


def test_a_collapsed_embedding_shows():
    found = examine(Given(0.5), run_over(np.ones((50, 3), np.float32)))
    assert found["rank"] == 0 and found["largest"] == 1 and found["silhouette"] is None
    assert found["entropy"] == pytest.approx(math.log(2) / math.log(3), abs=1e-4)


def test_what_is_not_finite_is_none_and_not_nan():
    found = examine(Given(float("nan")), run_over(np.ones((50, 3), np.float32)))
    assert found["entropy"] is None and found["empty"] == 2
    broken = Given(1.0)
    broken.embed = lambda x: x * float("inf")
    found = examine(broken, run_over(np.ones((50, 3), np.float32)))
    assert found["rank"] is None and found["silhouette"] is None


def test_of_many_rows_the_same_few_are_looked_at_and_no_random_numbers_are_drawn():
    run = run_over(np.arange(5000, dtype=np.float32).reshape(-1, 1))
    before = torch.get_rng_state(), run.generator.get_state()
    first, second = run.sample(ROWS), run.sample(ROWS)
    assert torch.equal(first, second) and len(set(first.flatten().tolist())) == ROWS
    assert torch.equal(first, first.sort(0).values) and first.max() > 4000
    assert torch.equal(before[0], torch.get_rng_state()) and torch.equal(before[1], run.generator.get_state())


def test_a_fit_tells_its_health_before_and_after_every_stage_and_keeps_it(tmp_path):
    X = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
    params = {"hidden": [8], "pretrain_epochs": 1, "epochs": 1, "latent_dim": 2}
    model = DeepClusterer("idec", 3, params=params, random_state=0).fit(X)
    stages = [h["stage"] for h in model.health_]
    assert stages[0] == "start" and {h["stage"] for h in model.history_} <= set(stages[1:])
    assert model.health_[-1]["largest"] == pytest.approx(np.bincount(model.labels_).max() / 90, abs=1e-4)
    model.save(tmp_path / "m")
    assert DeepClusterer.load(tmp_path / "m").health_ == model.health_
