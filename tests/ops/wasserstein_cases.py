"""Inputs for the tests of wasserstein_similarity: one table, and the loss as a user would write it."""

from dataclasses import dataclass

import torch


def dense(mu, sigma, gamma):
    """The loss in a few dense lines, in the product form everybody writes: what the kernel must not be worse than."""
    u = torch.cat([mu, sigma], 1)
    square = (u * u).sum(1)
    d = (square[:, None] + square[None] - 2 * u @ u.T).clamp_min(0)
    q = 1 / (1 + d)
    w = (gamma / gamma.sum(0).clamp_min(1e-8)) @ gamma.T
    return -(w * (q - torch.logsumexp(q, 1, keepdim=True))).sum() / len(u) ** 2


@dataclass(frozen=True)
class Case:
    n: int
    z: int = 10
    k: int = 10
    scale: float = 1.0
    shift: float = 0.0
    empty: bool = False
    spread: float = 0.0  # of rows around one of k centers; 0: no centers

    def __str__(self):
        extra = f"-shift{self.shift:g}" if self.shift else "-empty" if self.empty else ""
        extra += f"-spread{self.spread:g}" if self.spread else ""
        return f"n{self.n}-z{self.z}-k{self.k}-scale{self.scale:g}{extra}"

    def inputs(self, dtype, device="cpu"):
        """mu, sigma, gamma; exact in float32, so that every type sees the same numbers."""
        g = torch.Generator().manual_seed(self.n * 31 + self.z * 7 + self.k)
        mu = torch.randn(self.n, self.z, generator=g) * self.scale + self.shift
        sigma = (torch.rand(self.n, self.z, generator=g) + 0.1) * self.scale + self.shift
        gamma = torch.randn(self.n, self.k, generator=g).mul(2).softmax(1)
        if self.spread:
            mu = mu[torch.arange(self.n) % self.k] + torch.randn(self.n, self.z, generator=g) * self.spread
        if self.empty:
            gamma[:, 0] = 0
            gamma[:, -1] = 1e-12
        return tuple(x.to(device, dtype) for x in (mu, sigma, gamma))


CASES = [
    *(Case(n, scale=s) for n in (1, 2, 63, 64, 65, 300, 1000) for s in (0.1, 1.0, 3.0)),
    *(Case(67, z, k) for z, k in ((1, 1), (1, 17), (3, 7), (7, 3), (11, 13), (13, 11), (17, 1))),
    *(Case(n, 7, 5, shift=1e3) for n in (2, 65, 300)),
    *(Case(n, 5, 6, empty=True) for n in (2, 33, 130)),
    Case(129, 40, 33),
]
