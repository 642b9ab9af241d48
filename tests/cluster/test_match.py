"""Matching undoes a renaming and is as good as trying every permutation."""

from itertools import permutations

import pytest
import torch

from deepclust_accel.cluster import match_clusters


def test_undoes_a_renaming():
    a = torch.arange(40) % 5
    names = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(match_clusters(a, names[a])[names[a]], a)


def test_agrees_with_trying_all():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = torch.randint(5, (2, 30), generator=generator)
        permutation = match_clusters(a, b, 5)
        assert sorted(permutation.tolist()) == list(range(5))
        best = max(int((torch.tensor(p)[b] == a).sum()) for p in permutations(range(5)))
        assert int((permutation[b] == a).sum()) == best


def test_edges():
    assert match_clusters(torch.zeros(0), torch.zeros(0)).tolist() == []
    assert match_clusters(torch.zeros(0), torch.zeros(0), 3).sort().values.tolist() == [0, 1, 2]
    assert match_clusters(torch.tensor([2]), torch.tensor([0])).tolist()[0] == 2
    for a, b, k in (
        (torch.arange(3), torch.arange(4), None),
        (torch.arange(3), torch.arange(3), 2),
        (torch.tensor([-1]), torch.tensor([0]), None),
        (torch.zeros(2, 2), torch.zeros(2, 2), None),
    ):
        with pytest.raises(ValueError, match="labels: expected"):
            match_clusters(a, b, k)
