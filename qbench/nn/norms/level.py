"""Graham's low-precision batch-normalised activations (2017): quantise between normalisation and affine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qbench.kernels.encoding import look_up
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
from qbench.nn.site import Site, apply_function, straight_through
from qbench.nn.uncompiled import uncompiled
from qbench.quant.formats import Levels
from qbench.quant.levels import level_table
from qbench.quant.qtensor import QTensor
from qbench.recipe import LevelNorm


class LevelBatchNorm(BatchStatistics):
    """q = level of (x - mean) / sqrt(var + eps); y = gamma * q + beta, per channel.

    x [N, C], [N, C, L] or [N, C, H, W] float32. Kept for backward: the codes (one byte each), 1 / sigma, gamma.
    running_scale is the (unbiased) variance, as in the float batch norm.
    """

    def __init__(self, norm: FloatNorm, spec: LevelNorm, name: str, clock: Clock) -> None:
        super().__init__(norm, norm.momentum if norm.momentum is not None else 0.1)
        assert isinstance(spec.levels, Levels) and spec.levels.bits <= 8
        self.eps = norm.eps
        self.spec = spec
        self.normalised_site = Site(spec.levels, f"{name}/normalised", clock)

    def scale_of(self, variance: Tensor) -> Tensor:
        """The variance itself."""
        return variance.clone()

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """Normalise and quantise ``x``; see the class."""
        if self.training:
            return apply_function(_LevelNorm, x, self.weight, self.bias, self)
        inverse = torch.rsqrt(self.running_scale + self.eps)
        q = straight_through(self.normalised_site, (rows_of(x) - self.running_mean) * inverse)
        return from_rows(scaled_and_shifted(q, self.weight, self.bias), x)


class _LevelNorm(torch.autograd.Function):
    """dx = (g - mean(g) - q * mean(g q)) / sigma with g = gamma * dy: batch norm's backward with the quantised value in
    place of the exact one, so that only the codes have to be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: LevelBatchNorm) -> Tensor:
        rows = rows_of(x)
        mean, variance, centred = moments(rows)
        count = rows.shape[0]
        norm.track(mean, variance * (count / max(count - 1, 1)))
        inverse = torch.rsqrt(variance + norm.eps)
        encoded: QTensor = norm.normalised_site(centred * inverse)
        ctx.norm = norm
        ctx.save_for_backward(encoded.codes.to(torch.uint8), inverse, weight)
        return filled(torch.addcmul(bias, encoded.dequantize(), weight), x)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        codes, inverse, weight = ctx.saved_tensors
        spec: LevelNorm = ctx.norm.spec
        assert isinstance(spec.levels, Levels)
        q = look_up(codes, level_table(spec.levels, inverse.device))
        dy = rows_of(grads[0])
        count = dy.shape[0]
        grad_weight, grad_bias = (dy * q).sum(0), dy.sum(0)
        through = not_saturated(dy, codes, spec) if spec.saturate else dy
        mean, pull = through.mean(0), (through * q).mean(0)
        if spec.energy_correction:
            pull = pull / (q * q).sum(0).div(count).clamp(min=torch.finfo(q.dtype).tiny)
        dx = (through - mean - q * pull) * (weight * inverse)
        return from_rows(dx, grads[0]), grad_weight, grad_bias, None


def not_saturated(dy: Tensor, codes: Tensor, spec: LevelNorm) -> Tensor:
    """``dy`` without the elements whose code is an end code (they stand for everything beyond it)."""
    assert isinstance(spec.levels, Levels)
    return torch.where((codes == 0) | (codes == 2**spec.levels.bits - 1), 0.0, dy)
