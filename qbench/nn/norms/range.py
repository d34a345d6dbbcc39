"""Range batch norm (Banner, Hubara, Hoffer, Soudry 2018, section 3): the range stands in for the deviation."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from qbench.nn.clock import Clock
from qbench.nn.norms.base import BatchStatistics, FloatNorm, filled, from_rows, rows_of
from qbench.nn.once import differentiable_once
from qbench.nn.site import apply_function, through, value_site_for
from qbench.nn.uncompiled import uncompiled
from qbench.recipe import RangeNorm

CODE_FACTOR = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4)))
"""0.540208: numerator of the constant in the authors' code."""


@cache
def range_constant(kind: Literal["paper", "code", "exact"], count: int) -> float:
    """The factor that turns the range of ``count`` values into a scale.

    paper: 1 / sqrt(2 ln n) (Eq. 2). code: 0.540208 / sqrt(2 ln n), the authors' repository. exact: 1 / E[range] of n
    standard normal values. Raises ValueError below two values, which have no range.
    """
    if count < 2:
        raise ValueError(f"range batch norm needs at least two values per channel and chunk, got {count}")
    if kind == "exact":
        return 1 / expected_range(count)
    return (CODE_FACTOR if kind == "code" else 1.0) / math.sqrt(2 * math.log(count))


@cache
def num_chunks(wanted: int, rows: int) -> int:
    """The largest divisor of ``wanted`` that splits the rows in equal chunks of at least two, which have a range; 1
    where there is none."""
    return max((n for n in range(1, min(wanted, rows // 2) + 1) if wanted % n == rows % n == 0), default=1)


def expected_range(count: int) -> float:
    """E[max - min] of ``count`` standard normal values: the integral of 1 - F(x)^n - (1 - F(x))^n."""
    x = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    below = torch.special.ndtr(x)
    return float(torch.trapezoid(1 - below**count - (1 - below) ** count, x))


class RangeBatchNorm(BatchStatistics):
    """y = gamma * (x - mean) / (constant * range + eps) + beta, per channel.

    x [N, C], [N, C, L] or [N, C, H, W] float32. Where the values per channel do not fill the recipe's ``chunks``, there
    are fewer; see :func:`num_chunks`.
    """

    def __init__(self, norm: FloatNorm, spec: RangeNorm, name: str, clock: Clock) -> None:
        super().__init__(norm, spec.momentum)
        self.spec = spec
        self.input_site = value_site_for(spec.input, f"{name}/input", clock)
        self.scale_site = value_site_for(spec.scale, f"{name}/scale", clock)
        self.weight_site = value_site_for(spec.affine, f"{name}/gamma", clock)
        self.bias_site = value_site_for(spec.affine, f"{name}/beta", clock)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x``; see the class."""
        x = through(self.input_site, x)
        weight, bias = through(self.weight_site, self.weight), through(self.bias_site, self.bias)
        if not self.training:
            scale = through(self.scale_site, 1 / self.running_scale)
            return from_rows((rows_of(x) - self.running_mean) * (scale * weight) + bias, x)
        return apply_function(_RangeNorm, x, weight, bias, self)

    def statistics(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        """rows [n, C] -> mean [C], 1 / scale [C] in use, the exact one [C], extremes' rows [2, K, C] (index within the
        chunk), constant."""
        chunks = num_chunks(self.spec.chunks, rows.shape[0])
        parts = rows.view(chunks, -1, rows.shape[1])
        constant = range_constant(self.spec.constant, parts.shape[1])
        high, high_at = parts.max(dim=1)
        low, low_at = parts.min(dim=1)
        mean = rows.mean(0)
        scale = constant * (high - low).mean(0) + self.spec.eps
        self.track(mean, scale)
        exact = 1 / scale
        return mean, through(self.scale_site, exact), exact, torch.stack([high_at, low_at]), constant


class _RangeNorm(torch.autograd.Function):
    """Backward in closed form: the derivative of max and min is 1 where they are attained (paper, section 7).

    With D the scale, K chunks, xhat the normalised value and g = gamma * dy:
    dx = (g - mean(g)) / D - constant / (K D) * sum(g xhat) * ([attains its chunk's max] - [attains its min]).
    Where 1 / D is rounded, the rounding passes the gradient unchanged: the derivative is the exact one's, and its
    sum(g xhat) / D is sum(g (x - mean)) / D^2, because what was rounded may be 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: RangeBatchNorm) -> Tensor:
        rows = rows_of(x).contiguous()
        mean, inverse, exact, extremes, ctx.constant = norm.statistics(rows)
        centred = rows - mean
        ctx.save_for_backward(centred, inverse, exact, extremes, weight)
        ctx.tie, ctx.is_rounded = norm.spec.tie, norm.scale_site is not None
        return filled(torch.addcmul(bias, centred * inverse, weight), x)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        centred, inverse, exact, extremes, weight = ctx.saved_tensors
        dy = rows_of(grads[0])
        grad_weight, grad_bias = (dy * (centred * inverse)).sum(0), dy.sum(0)
        count, chunks = dy.shape[0], extremes.shape[1]
        # The sums over g = gamma * dy are gamma times the sums over dy, computed once.
        dx = (dy - grad_bias / count) * (weight * inverse)
        by_scale = exact * (dy * centred).sum(0) if ctx.is_rounded else grad_weight
        pull = ctx.constant / chunks * exact * weight * by_scale
        _add_at_extremes(dx.view(chunks, -1, dx.shape[1]), centred, extremes, pull, ctx.tie)
        return from_rows(dx, grads[0]), grad_weight, grad_bias, None


def _add_at_extremes(dx: Tensor, rows: Tensor, extremes: Tensor, pull: Tensor, tie: str) -> None:
    """Subtract ``pull`` [C] at each chunk's maximum of ``rows`` and add it at its minimum, in place on dx [K, m, C]."""
    values = rows.view_as(dx)
    for index, sign in ((extremes[0], -1.0), (extremes[1], 1.0)):
        if tie == "one":
            dx.scatter_add_(1, index[:, None], (sign * pull).expand_as(index)[:, None])
            continue
        tied = (values == values.gather(1, index[:, None])).to(dx.dtype)
        share = tied / tied.sum(1, keepdim=True) if tie == "split" else tied
        dx.add_(share * (sign * pull))
