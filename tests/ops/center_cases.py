"""Inputs and checks for the operators over rows and centers: one table, and the formulas as a user would write them."""

from dataclasses import dataclass, replace

import torch

from deepclust_accel.testing.ops import TOLERANCE, relative_error


@dataclass(frozen=True)
class Case:
    n: int
    k: int = 10
    d: int = 10
    shift: float = 0.0
    seed: int = 0

    def __str__(self):
        return f"n{self.n}-k{self.k}-d{self.d}" + (f"-shift{self.shift:g}" if self.shift else "")

    def normal(self, *size, scale=1.0, shift=0.0):
        """Exact in float32, so that every type sees the same numbers."""
        seed = self.n * 31 + self.k * 7 + self.d * 3 + len(size) + 1000 * self.seed
        return torch.randn(*size, generator=torch.Generator().manual_seed(seed)) * scale + shift

    def rows(self, dtype=torch.float32):
        """z (N, D) and centers (K, D)."""
        z = self.normal(self.n, self.d, shift=self.shift)
        return z.to(dtype), self.normal(self.k, 1, self.d, scale=1.5, shift=self.shift)[:, 0].to(dtype)

    def mixture(self, dtype=torch.float32):
        """z, log-weights, means and log-variances."""
        z, mean = self.rows(dtype)
        return (
            z,
            self.normal(self.k).log_softmax(0).to(dtype),
            mean,
            self.normal(self.k, 1, 1, self.d)[:, 0, 0].to(dtype),
        )

    def upstream(self, dtype=torch.float32):
        """What arrives from above at the backward, (N, K)."""
        return self.normal(self.n, self.k, 1, 1, 1).view(self.n, self.k).to(dtype)


CASES = [
    *(Case(n) for n in (1, 2, 31, 32, 33, 63, 64, 65, 300, 1000)),
    *(Case(67, k, d) for k in (1, 3, 10, 17, 100) for d in (1, 3, 10, 33)),
    *(Case(n, 10, 7, shift=1e3) for n in (2, 65, 300)),
    Case(300, 100, 10, shift=1e3),
    Case(37, 70, 130),
]


def dense_assign(z, centers, dof=1.0):
    """soft_assign as its formula reads, with an N x K x D tensor."""
    w = (1 + (z[:, None] - centers).square().sum(2) / dof) ** (-(dof + 1) / 2)
    return w / w.sum(1, keepdim=True)


def dense_posterior(z, log_weights, mean, log_variance):
    """mixture_posterior as its formula reads, with an N x K x D tensor."""
    squares = ((z[:, None] - mean).square() * (-log_variance).exp()).sum(2)
    return (log_weights - 0.5 * (log_variance.sum(1) + squares)).log_softmax(1)


def value_and_pullback(call, inputs, upstream):
    """The value, then the gradient of every input for what arrives from above."""
    leaves = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    value = call(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves, upstream.to(value.dtype))


def relative_errors(call, inputs, upstream, want):
    return [relative_error(g, w) for g, w in zip(value_and_pullback(call, inputs, upstream), want, strict=True)]


def check_rows_op(call, dense, inputs, upstream, *, tolerance=None):
    """Value and every gradient against ``dense`` in float64, relative L2; then bits and strides."""
    limit = TOLERANCE[inputs[0].dtype] if tolerance is None else tolerance
    want = value_and_pullback(dense, [x.double() for x in inputs], upstream.double())
    found = relative_errors(call, inputs, upstream, want)
    assert max(found) <= limit, f"relative errors {found}, allowed {limit}"
    first, second = (value_and_pullback(call, inputs, upstream) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "two runs differ"
    turned = [x.T.contiguous().T if x.dim() == 2 else x for x in inputs]
    spread = [torch.stack([x, x + 1], -1)[..., 0] for x in inputs]
    for views in (turned, spread):
        leaves = [x.detach().requires_grad_() for x in views]
        value = call(*leaves)
        got = value.detach(), *torch.autograd.grad(value, leaves, upstream.to(value.dtype).T.contiguous().T)
        assert all(relative_error(a, b) <= limit for a, b in zip(got, want, strict=True)), "strides matter"


def errors_beside_eager(call, dense, inputs_of, case, draws=12):
    """Geometric mean over draws of our float32 error over that of ``dense`` in float32, for the value and every
    gradient: a single draw says little, as both are a handful of roundings."""
    logs = []
    for seed in range(draws):
        drawn = replace(case, seed=seed)
        inputs, upstream = inputs_of(drawn), drawn.upstream()
        want = value_and_pullback(dense, [x.double() for x in inputs], upstream.double())
        ours, theirs = (torch.tensor(relative_errors(f, inputs, upstream, want)) for f in (call, dense))
        logs.append(ours.log() - theirs.log())
    return torch.stack(logs).mean(0).exp().tolist()


BESIDE_EAGER = (Case(300), Case(67, 100, 33), Case(65, 10, 7, shift=1e3), Case(37, 70, 130))
