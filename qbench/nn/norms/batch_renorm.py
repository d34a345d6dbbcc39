"""Batch renormalisation (Ioffe 2017, arXiv:1702.03275): batch norm that inference can trust with small batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qbench.nn.clock import Clock
from qbench.nn.norms.base import BatchStatistics, FloatNorm, filled, from_rows, moments, rows_of
from qbench.nn.once import differentiable_once
from qbench.nn.site import apply_function
from qbench.nn.uncompiled import uncompiled
from qbench.recipe import BatchRenorm


class RenormBatchNorm(BatchStatistics):
    """y = gamma * ((x - mean) / sigma * r + d) + beta per channel, sigma = sqrt(variance + eps); see
    :class:`~qbench.recipe.BatchRenorm` for r and d.

    x [N, C], [N, C, L] or [N, C, H, W] float32. In evaluation mode xhat = (x - running mean) / running sigma, which is
    what training computes too where r and d reach no limit. running_scale is the running sigma.
    """

    def __init__(self, norm: FloatNorm, spec: BatchRenorm, name: str, clock: Clock) -> None:
        super().__init__(norm, spec.momentum)
        self.spec = spec
        self.clock = clock

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``; see the class."""
        if self.training:
            return apply_function(_Renorm, x, self.weight, self.bias, self)
        normalised = (rows_of(x) - self.running_mean) / self.running_scale
        return from_rows(torch.addcmul(self.bias, normalised, self.weight), x)

    def correction(self, mean: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """r and d [C] for a batch's mean and sigma [C]."""
        r_max, d_max = limits(self.spec, self.clock.step)
        r = (sigma / self.running_scale).clamp(1 / r_max, r_max)
        d = ((mean - self.running_mean) / self.running_scale).clamp(-d_max, d_max)
        return r, d


def limits(spec: BatchRenorm, step: int) -> tuple[float, float]:
    """r_max and d_max at optimiser step ``step``: from 1 and 0 linearly to their final values."""
    r_share, d_share = (
        min(max((step - spec.free_steps) / (last - spec.free_steps), 0.0), 1.0) for last in (spec.r_steps, spec.d_steps)
    )
    return 1 + (spec.r_max - 1) * r_share, spec.d_max * d_share


class _Renorm(torch.autograd.Function):
    """With z = (x - mean) / sigma and g = gamma * r * dy: dx = (g - mean(g) - z * mean(g z)) / sigma. r and d are
    constants to the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: RenormBatchNorm) -> Tensor:
        mean, variance, centred = moments(rows_of(x))
        sigma = (variance + norm.spec.eps).sqrt()
        r, d = norm.correction(mean, sigma)
        norm.track(mean, sigma)
        z = centred / sigma
        ctx.save_for_backward(z, sigma, r, d, weight)
        return filled(torch.addcmul(bias, z * r + d, weight), x)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        z, sigma, r, d, weight = ctx.saved_tensors
        dy = rows_of(grads[0])
        grad_bias, pull = dy.sum(0), (dy * z).sum(0)
        grad_weight = pull * r + grad_bias * d
        count = dy.shape[0]
        dx = (dy - grad_bias / count - z * (pull / count)) * (weight * r / sigma)
        return from_rows(dx, grads[0]), grad_weight, grad_bias, None
