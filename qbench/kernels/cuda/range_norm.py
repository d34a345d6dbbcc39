"""Range batch norm's numbers per channel: launchers of range_norm.cu. See :mod:`qbench.kernels.blocks`."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import Double, flat_grid, launch
from qbench.kernels.cuda.layout import dense, fresh_extremes


def range_line(
    sums: Tensor, lows: Tensor, highs: Tensor, rows: int, scale: Tensor, zero: Tensor, weight: Tensor, bias: Tensor,
    constant: float, eps: float, relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(slope, offset, mean of the codes, 1 / D, batch mean, D, extremes of the output)."""
    (chunks, channels), device = lows.shape, sums.device
    slope, offset, batch_mean, spread = (dense((channels,), torch.float32, device) for _ in range(4))
    mean, inverse = (dense((channels,), torch.float64, device) for _ in range(2))
    extremes = fresh_extremes(device)
    launch(
        "range_line", flat_grid(channels, device, per_thread=1),
        sums, lows, highs, channels, chunks, rows, scale, zero, weight, bias, Double(constant), Double(eps), relu,
        slope, offset, mean, inverse, batch_mean, spread, extremes, device=device,
    )  # fmt: skip
    return slope, offset, mean, inverse, batch_mean, spread, extremes


def range_gradient_line(
    sums: Tensor, rows: int, scale: Tensor, zero: Tensor, step: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor,
    constant: float, codes: Tensor, low_at: Tensor, high_at: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(slope, offset, mean of the codes, pull, elements at the chunks' extremes, the gradient there, gradients of
    weight and bias)."""
    (chunks, channels), device = low_at.shape, sums.device
    slope, offset, pull, grad_weight, grad_bias = (dense((channels,), torch.float32, device) for _ in range(5))
    error_mean = dense((channels,), torch.float64, device)
    at = dense((2 * chunks * channels,), torch.int64, device)
    values = dense((2 * chunks * channels,), torch.float32, device)
    launch(
        "range_gradient_line", flat_grid(chunks * channels, device, per_thread=1),
        sums, channels, chunks, rows, scale, zero, step, mean, inverse, weight, Double(constant), codes,
        low_at, high_at, slope, offset, error_mean, pull, at, values, grad_weight, grad_bias, device=device,
    )  # fmt: skip
    return slope, offset, error_mean, pull, at, values, grad_weight, grad_bias
