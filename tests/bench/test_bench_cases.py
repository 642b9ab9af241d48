"""What the table of cases claims: the float64 values, the work, the memory; and that the gate stops who is wrong."""

import math
from functools import partial

import pytest
import torch

from deepclust_accel import ops
from deepclust_accel.bench import memory
from deepclust_accel.bench.cases import CASES, mixture_posterior, soft_assign, t_similarity, wasserstein_similarity
from deepclust_accel.bench.gate import check, relative
from deepclust_accel.bench.providers import PROVIDERS, Provider, first_line

case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def dense(c, rows):
    """Value and gradients of the eager formula, whole and in float64."""
    leaves = tuple(x.detach().double().requires_grad_() for x in c.inputs(rows))
    value, above = c.eager(*leaves), c.gradient_from_above(rows)
    return value.detach(), torch.autograd.grad(value, leaves, above if above is None else above.double())


def test_every_public_operator_that_has_a_gradient_has_a_case():
    assert {c.operator for c in CASES.values()} == set(ops.report()) - {
        "nearest_center",
        "center_sums",
    }  # bench/kmeans_iteration.py has these
    for name, c in CASES.items():
        call = c.call.func if isinstance(c.call, partial) else c.call
        assert name == c.name and call is getattr(ops, c.operator)


@case
@pytest.mark.parametrize("rows", [1, 2, 65, 700])
def test_exact_by_blocks_is_the_dense_float64_loss(case, rows, monkeypatch):
    for module in (t_similarity, wasserstein_similarity):
        monkeypatch.setattr(module, "_BLOCK_PAIRS", 64)  # many blocks, the last one short
    for module in (mixture_posterior, soft_assign):
        monkeypatch.setattr(module, "_BLOCK_ROWS", 64)
    value, gradients = case.exact(case.inputs(rows))
    expected, wanted = dense(case, rows)
    torch.testing.assert_close(torch.as_tensor(value, dtype=torch.float64), expected, rtol=1e-10, atol=1e-13)
    for found, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-12)


@case
def test_inputs_are_the_same_every_time(case):
    first, second = case.inputs(20), case.inputs(20)
    assert all(torch.equal(a, b) and a.requires_grad and a.is_leaf for a, b in zip(first, second, strict=True))
    assert len(case.names) == len(first)


@case
@pytest.mark.parametrize("name", ["native", "reference", "eager"])
def test_right_providers_pass(case, name):
    provider = PROVIDERS[name]
    if provider.missing(case):
        pytest.skip(provider.missing(case))
    inputs = case.inputs(130)
    with provider.context():
        verdict = check(case, provider.build(case), inputs, case.exact(inputs))
    assert verdict.reason == "" and verdict.error < case.tolerance


@pytest.mark.parametrize("operator", ["wasserstein_similarity", "t_similarity"])
@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (lambda c: lambda *x: c.eager(*x) + 0.001 * c.eager(*x).detach(), "value"),
        (lambda c: lambda *x: c.eager(x[0].detach() + 0 * x[0], *x[1:]), "gradient of"),
        (lambda c: lambda *x: c.eager(*x) + 0.01 * (x[-1] - x[-1].detach()).sum(), "gradient of"),
        (lambda c: lambda *x: c.eager(*x) * math.nan, "value"),
        (lambda c: lambda *x: c.eager(*x).reshape(1), None),
    ],
    ids=["value", "no-gradient", "gradient", "nan", "harmless-shape"],
)
def test_wrong_providers_are_stopped(operator, wrong, what):
    case = CASES[operator]
    inputs = case.inputs(64)
    verdict = check(case, wrong(case), inputs, case.exact(inputs))
    if what is None:
        assert verdict.reason == ""
    else:
        assert verdict.reason.startswith(what) and "tolerance" in verdict.reason


def test_a_wrong_matrix_is_stopped():
    case = CASES["soft_assign"]
    inputs = case.inputs(64)
    exact = case.exact(inputs)
    assert check(case, case.eager, inputs, exact).reason == ""
    assert check(case, lambda *x: case.eager(*x) + 0.001 * case.eager(*x).detach(), inputs, exact).reason.startswith(
        "value"
    )
    assert check(case, lambda *x: case.eager(*x)[:63], inputs, exact).error == math.inf
    late = check(case, lambda z, c: case.eager(z, c.detach() + 0 * c), inputs, exact)
    assert late.reason.startswith("gradient of centers")


def test_relative_error():
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert relative(torch.tensor([3.0, 4.5]), exact) == pytest.approx(0.1)
    assert relative(torch.tensor([3.0, math.inf]), exact) == math.inf
    assert relative(torch.zeros(3), exact) == math.inf
    assert relative(torch.zeros(2), torch.zeros(2, dtype=torch.float64)) == 0


class Counted:
    """Scalar arithmetic that counts its multiply-adds."""

    def __init__(self):
        self.count = 0

    def add(self, total, a, b):
        self.count += 1
        return total + a * b


def by_hand(mu, sigma, gamma):
    """Value, gradients and multiply-adds of the loss, pair by pair, nothing kept that is rows x rows."""
    n, clusters = len(mu), len(gamma[0])
    u = [[*m, *s] for m, s in zip(mu, sigma, strict=True)]
    features = range(len(u[0]))
    size = [sum(row[k] for row in gamma) for k in range(clusters)]
    forward, backward = Counted(), Counted()

    def similarity(i, j, arithmetic):
        d = 0.0
        for f in features:
            difference = u[i][f] - u[j][f]
            d = arithmetic.add(d, difference, difference)
        return 1 / (1 + d)

    z = [math.e] * n  # i = j: q = 1
    r = [row[:] for row in gamma]
    for i in range(n):
        for j in range(i):
            q = similarity(i, j, forward)
            z[i], z[j] = z[i] + math.exp(q), z[j] + math.exp(q)
            for k in range(clusters):
                r[i][k] = forward.add(r[i][k], q, gamma[j][k])
                r[j][k] = forward.add(r[j][k], q, gamma[i][k])
    value = (
        sum(
            sum(gamma[i]) * math.log(z[i]) - sum(gamma[i][k] * r[i][k] / size[k] for k in range(clusters))
            for i in range(n)
        )
        / n**2
    )
    scaled = [[gamma[i][k] / size[k] for k in range(clusters)] for i in range(n)]
    pull = [[0.0 for _ in features] for _ in range(n)]
    total = [0.0] * n
    for i in range(n):
        for j in range(i):
            q, w = similarity(i, j, backward), 0.0
            for k in range(clusters):
                w = backward.add(w, scaled[i][k], gamma[j][k])
            s = q * q * (2 * w - math.exp(q) * (sum(gamma[i]) / z[i] + sum(gamma[j]) / z[j])) / n**2
            total[i], total[j] = total[i] + s, total[j] + s
            for f in features:
                pull[i][f] = backward.add(pull[i][f], s, u[j][f])
                pull[j][f] = backward.add(pull[j][f], s, u[i][f])
    g_u = [[2 * (total[i] * u[i][f] - pull[i][f]) for f in features] for i in range(n)]
    same = [sum(gamma[i][k] * r[i][k] for i in range(n)) / size[k] for k in range(clusters)]
    g_gamma = [
        [(math.log(z[i]) * size[k] - 2 * r[i][k] + same[k]) / size[k] / n**2 for k in range(clusters)] for i in range(n)
    ]
    return value, g_u, g_gamma, {"forward": forward.count, "backward": backward.count}


@pytest.mark.parametrize(("n", "latent", "clusters"), [(1, 2, 2), (6, 3, 2), (5, 1, 4), (7, 10, 10)])
def test_the_counted_multiply_adds_suffice_and_are_all_that_is_needed(n, latent, clusters):
    g = torch.Generator().manual_seed(n)
    mu, sigma, gamma = (torch.rand(n, k, generator=g, dtype=torch.float64) for k in (latent, latent, clusters))
    value, g_u, g_gamma, counts = by_hand(mu.tolist(), sigma.tolist(), gamma.tolist())
    leaves = [x.requires_grad_() for x in (mu, sigma, gamma)]
    loss = wasserstein_similarity.eager(*leaves)
    g_mu, g_sigma, expected = torch.autograd.grad(loss, leaves)
    assert value == pytest.approx(loss.item(), rel=1e-9, abs=1e-14)
    torch.testing.assert_close(torch.tensor(g_u, dtype=torch.float64), torch.cat([g_mu, g_sigma], 1))
    torch.testing.assert_close(torch.tensor(g_gamma, dtype=torch.float64), expected)
    assert counts == wasserstein_similarity.multiply_adds(n, latent, clusters)


def test_work_at_the_usual_shape():
    assert wasserstein_similarity.multiply_adds(2) == {"forward": 40, "backward": 70}


@pytest.mark.parametrize(
    ("operator", "rows"),
    [("wasserstein_similarity", 3000), ("soft_assign", 200_000), ("mixture_posterior", 200_000)],
)
def test_peak_memory_of_a_dense_loss_is_what_the_case_predicts(operator, rows):
    peak, reason = memory.peak(operator, "eager", rows)
    assert reason == ""
    assert 0.6 < peak / CASES[operator].dense_bytes("eager", rows) < 1.6


def test_memory_says_why_not():
    peak, reason = memory.peak("wasserstein_similarity", "nobody", 10)
    assert peak is None and "nobody" in reason
    assert memory.available() > 2**20


def test_first_line():
    assert first_line(ValueError("one\ntwo")) == "ValueError: one"
    assert first_line(ValueError()) == "ValueError: "
    assert len(first_line(ValueError("x" * 999))) == 200


def test_keops_says_why_it_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install pykeops" in PROVIDERS["keops"].missing(CASES["wasserstein_similarity"])
    assert Provider("x", "", lambda c: c.eager).missing(CASES["wasserstein_similarity"]) == ""
