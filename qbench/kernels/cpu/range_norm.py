"""Range batch norm on codes in C++: as :mod:`qbench.kernels.reference.range_norm`, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import call, floats


def range_line(
    sums: Tensor, lows: Tensor, highs: Tensor, rows: int, scale: Tensor, zero: Tensor, weight: Tensor, bias: Tensor,
    constant: float, eps: float, relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(slope, offset, mean of the codes, 1 / D, batch mean, D, extremes of the output)."""
    chunks, channels = lows.shape
    slope, offset, batch_mean, spread = (floats(channels) for _ in range(4))
    mean, inverse = (torch.empty(channels, dtype=torch.float64) for _ in range(2))
    extremes = floats(2)
    call(
        "range_line", sums.data_ptr(), lows.data_ptr(), highs.data_ptr(), channels, chunks, rows, scale.data_ptr(),
        zero.data_ptr(), weight.data_ptr(), bias.data_ptr(), constant, eps, relu, slope.data_ptr(), offset.data_ptr(),
        mean.data_ptr(), inverse.data_ptr(), batch_mean.data_ptr(), spread.data_ptr(), extremes.data_ptr(),
    )  # fmt: skip
    return slope, offset, mean, inverse, batch_mean, spread, extremes


def range_gradient_line(
    sums: Tensor, rows: int, scale: Tensor, zero: Tensor, step: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor,
    constant: float, codes: Tensor, low_at: Tensor, high_at: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(slope, offset, mean of the codes, pull, elements at the chunks' extremes, the gradient there, gradients of
    weight and bias)."""
    chunks, channels = low_at.shape
    slope, offset, pull, grad_weight, grad_bias = (floats(channels) for _ in range(5))
    error_mean = torch.empty(channels, dtype=torch.float64)
    at = torch.empty(2 * chunks * channels, dtype=torch.int64)
    values = floats(2 * chunks * channels)
    call(
        "range_gradient_line", sums.data_ptr(), channels, chunks, rows, scale.data_ptr(), zero.data_ptr(),
        step.data_ptr(), mean.data_ptr(), inverse.data_ptr(), weight.data_ptr(), constant, codes.data_ptr(),
        low_at.data_ptr(), high_at.data_ptr(), slope.data_ptr(), offset.data_ptr(), error_mean.data_ptr(),
        pull.data_ptr(), at.data_ptr(), values.data_ptr(), grad_weight.data_ptr(), grad_bias.data_ptr(),
    )  # fmt: skip
    return slope, offset, error_mean, pull, at, values, grad_weight, grad_bias
