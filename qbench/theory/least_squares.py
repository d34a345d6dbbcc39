"""Least squares with single samples or batches as gradient noise: F(w) = |A w - y|^2 / (2 n)."""

from __future__ import annotations

import torch
from torch import Tensor


class LeastSquares:
    """A [samples, dimensions] of standard normal entries, y = A w + ``label_noise`` * N(0, 1) for a standard normal w.

    best: the minimiser [dimensions]; its coordinates lie on no grid.
    """

    def __init__(self, samples: int, dimensions: int, label_noise: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        a = torch.randn(samples, dimensions, generator=generator, dtype=torch.float64)
        truth = torch.randn(dimensions, generator=generator, dtype=torch.float64)
        y = a @ truth + label_noise * torch.randn(samples, generator=generator, dtype=torch.float64)
        self._hessian = a.T @ a / samples
        self.best = torch.linalg.solve(self._hessian, a.T @ y / samples)
        self.curvatures = torch.linalg.eigvalsh(self._hessian)
        self._a, self._y = a.float(), y.float()

    def excess(self, w: Tensor) -> Tensor:
        """F(w) - F(best) of each row of w [..., dimensions], in float64."""
        away = w.double() - self.best
        excess: Tensor = 0.5 * ((away @ self._hessian) * away).sum(-1)
        return excess

    def draw(self, chains: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch for each chain, with replacement: rows of A [chains, batch, dimensions] and y [chains, batch]."""
        index = torch.randint(len(self._y), (chains, batch), generator=generator)
        return self._a[index], self._y[index]

    def largest_gradient(self, w: Tensor) -> float:
        """The largest |g_i| that any single sample can give at ``w`` [dimensions]."""
        return float((self._a * (self._a @ w - self._y)[:, None]).abs().max())


def gradient(w: Tensor, rows: Tensor, y: Tensor) -> Tensor:
    """The batch gradient for w [problems, chains, dimensions] on rows [chains, batch, dimensions], y [chains, batch]:
    all problems see the same samples."""
    residual = torch.einsum("cbd,pcd->pcb", rows, w) - y
    return torch.einsum("cbd,pcb->pcd", rows, residual) / y.shape[1]
