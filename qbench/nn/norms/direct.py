"""WAGEUBN's batch norm (Yang et al. 2020, section III; authors' code): every quantity on a direct grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qbench.nn.clock import Clock
from qbench.nn.norms.base import (
    BatchStatistics,
    FloatNorm,
    filled,
    from_rows,
    moments,
    rows_of,
    scaled_and_shifted,
)
from qbench.nn.once import differentiable_once
from qbench.nn.site import apply_function, through, value_site_for
from qbench.nn.uncompiled import uncompiled
from qbench.recipe import DirectNorm


class DirectBatchNorm(BatchStatistics):
    """xhat = Q((x - Q(mean)) / (Q(deviation) + eps)); y = Q(gamma) * xhat + Q(beta), per channel.

    x [N, C], [N, C, L] or [N, C, H, W] float32. Straight-through on every Q; the backward is otherwise that of batch
    norm. running_scale is the variance, as the authors track it; its root is quantised when used.
    """

    def __init__(self, norm: FloatNorm, spec: DirectNorm, name: str, clock: Clock) -> None:
        super().__init__(norm, spec.momentum)
        self.eps = spec.eps
        self.mean_site = value_site_for(spec.mean, f"{name}/mean", clock)
        self.deviation_site = value_site_for(spec.deviation, f"{name}/deviation", clock)
        self.normalised_site = value_site_for(spec.normalised, f"{name}/normalised", clock)
        self.weight_site = value_site_for(spec.affine, f"{name}/gamma", clock)
        self.bias_site = value_site_for(spec.affine, f"{name}/beta", clock)

    def scale_of(self, variance: Tensor) -> Tensor:
        """The variance itself."""
        return variance.clone()

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``; see the class."""
        weight, bias = through(self.weight_site, self.weight), through(self.bias_site, self.bias)
        if self.training:
            return apply_function(_DirectNorm, x, weight, bias, self)
        mean = through(self.mean_site, self.running_mean)
        inverse = 1 / (through(self.deviation_site, self.running_scale.sqrt()) + self.eps)
        normalised = through(self.normalised_site, (rows_of(x) - mean) * inverse)
        return from_rows(scaled_and_shifted(normalised, weight, bias), x)


ROUNDING = 2.0**-20
"""Deviations up to this part of the mean are roundings of the float32 mean, eight of its last places."""


class _DirectNorm(torch.autograd.Function):
    """With z the unquantised normalised value, s the scale in use, m and d the exact mean and deviation, g = gamma dy:
    dx = (g - mean(g) - (x - m) / d * mean(g z)) / s. A constant channel (d = 0) has no third term."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: DirectBatchNorm) -> Tensor:
        rows = rows_of(x).contiguous()
        mean, variance, _ = moments(rows)
        deviation = variance.sqrt()
        norm.track(mean, variance)
        mean_used = through(norm.mean_site, mean)
        inverse = 1 / (through(norm.deviation_site, deviation) + norm.eps)
        normalised = through(norm.normalised_site, (rows - mean_used) * inverse)
        ctx.norm = norm
        over_deviation = torch.where(deviation > mean.abs() * ROUNDING, 1 / deviation, 0.0)
        ctx.save_for_backward(rows, mean_used, inverse, over_deviation, mean - mean_used, weight)
        return filled(torch.addcmul(bias, normalised, weight), x)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        rows, mean_used, inverse, over_deviation, shift, weight = ctx.saved_tensors
        # Both follow from what is kept, by the same operations as in the forward pass.
        z = (rows - mean_used) * inverse
        normalised = through(ctx.norm.normalised_site, z)
        dy = rows_of(grads[0])
        count = dy.shape[0]
        grad_weight, grad_bias = (dy * normalised).sum(0), dy.sum(0)
        # (x - m) / d = z * s / d - (m - m_used) / d, written with the saved z.
        pull = (dy * z).sum(0) / count * over_deviation
        centred = dy - grad_bias / count
        dx = (centred - z * (pull / inverse) + shift * pull) * (weight * inverse)
        return from_rows(dx, grads[0]), grad_weight, grad_bias, None
