"""tiny keeps the contract, and its loss is the one it says."""

import torch
from dcaccel_tiny import distance_to_nearest

from deepclust_accel.testing.methods import check_method


def test_it_conforms():
    assert not [str(check) for check in check_method("tiny", params={"epochs": 20}) if check.problem]


def test_the_pull_is_that_of_a_double_loop():
    z, centers = torch.randn(5, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    nearest = [
        min(sum((a - b) ** 2 for a, b in zip(row, c, strict=True)) for c in centers.tolist()) for row in z.tolist()
    ]
    assert abs(float(distance_to_nearest(z, centers)) - sum(nearest) / 5) < 1e-12
