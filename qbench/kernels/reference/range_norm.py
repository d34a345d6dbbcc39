"""Reference of Range batch norm on codes: the few numbers per channel that the passes over the tensor need.

Everything is computed per channel in float64, one rounding per operation, and rounded to float32 at the end. Divisors
are tensors because PyTorch divides by a Python number on CUDA through its reciprocal.
"""

from __future__ import annotations

import torch
from torch import Tensor


def range_line(
    sums: Tensor, lows: Tensor, highs: Tensor, rows: int, scale: Tensor, zero: Tensor, weight: Tensor, bias: Tensor,
    constant: float, eps: float, relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(slope, offset, mean of the codes, 1 / D, batch mean, D, extremes of the output)."""
    step = scale.double()
    mean = sums.double() / _count(rows, sums)
    width = (highs.double() - lows.double()).sum(0) / _count(lows.shape[0], sums)
    spread = constant * step * width + eps
    inverse = 1 / spread
    low, high = lows.amin(0), highs.amax(0)
    slope = (weight.double() * step * inverse * (low < high)).float()
    offset = (bias.double() - slope.double() * mean).float()
    ends = torch.stack([slope * low.float() + offset, slope * high.float() + offset])
    extremes = torch.stack([ends.amin(), ends.amax()])  # amin and amax pass NaN on
    batch_mean = (step * (mean - zero.double())).float()
    return slope, offset, mean, inverse, batch_mean, spread.float(), extremes.clamp(min=0) if relu else extremes


def range_gradient_line(
    sums: Tensor, rows: int, scale: Tensor, zero: Tensor, step: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor,
    constant: float, codes: Tensor, low_at: Tensor, high_at: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(slope, offset, mean of the codes, pull, elements at the chunks' extremes, the gradient there, gradients of
    weight and bias)."""
    size, totals = scale.double(), sums.double()
    grad_weight = size * step.double() * (totals[1] - mean * totals[0]) * inverse
    grad_bias = size * (totals[0] - rows * zero.double())
    through = weight.double() * inverse
    slope, error_mean = (through * size).float(), totals[0] / _count(rows, sums)
    offset = (-slope.double() * error_mean).float()
    pull = (constant / low_at.shape[0] * through * grad_weight).float()
    at, values = _at_extremes(codes, low_at, high_at, slope, offset, pull)
    return slope, offset, error_mean, pull, at, values, grad_weight.float(), grad_bias.float()


def _at_extremes(
    codes: Tensor, low_at: Tensor, high_at: Tensor, slope: Tensor, offset: Tensor, pull: Tensor
) -> tuple[Tensor, Tensor]:
    """Where a chunk's maximum and minimum are one element (a constant chunk), both pulls act on it."""
    at = torch.stack([high_at, low_at]) * codes.shape[1] + torch.arange(codes.shape[1], device=codes.device)
    flat = codes.permute(0, 2, 3, 1).reshape(-1) if codes.dim() == 4 else codes.reshape(-1)
    line = slope * flat[at].float() + offset
    same = high_at == low_at
    high = line[0] - pull
    low = torch.where(same, high, line[1]) + pull
    return at.flatten(), torch.stack([torch.where(same, low, high), low]).flatten()


def _count(number: int, like: Tensor) -> Tensor:
    return torch.full((), float(number), dtype=torch.float64, device=like.device)
