"""Passes over float32 rows and codes of a grid of levels: launchers of levels.cu. See :mod:`qbench.kernels.passes`."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.cuda.columns import column_grid, column_width
from qbench.kernels.cuda.launch import Double, flat_grid, launch
from qbench.kernels.cuda.layout import dense, rows_and_channels

MOMENTS_BYTES = 32
"""Of one channel's partial result: three float64 and two float32."""

SUMS_BYTES = 16
"""Two float64."""


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per channel: mean and biased variance float64, min and max float32. The same bits at every call."""
    (rows, channels), device = rows_and_channels(x), x.device
    if not rows or not channels:
        zeros = [
            torch.zeros(channels, dtype=dtype, device=device) for dtype in [torch.float64] * 2 + [torch.float32] * 2
        ]
        return zeros[0], zeros[1], zeros[2], zeros[3]
    width = column_width(channels, x)
    grid = column_grid(rows, channels, width, device)
    partials = torch.empty(grid[0] * channels * MOMENTS_BYTES, dtype=torch.uint8, device=device)
    launch(f"partial_moments<{width}>", grid, x, rows, channels, partials, device=device)
    mean, variance = (dense((channels,), torch.float64, device) for _ in range(2))
    lows, highs = (dense((channels,), torch.float32, device) for _ in range(2))
    launch("finish_moments", channels, partials, grid[0], channels, mean, variance, lows, highs, device=device)
    return mean, variance, lows, highs


def move_average_(average: Tensor, value: Tensor, weight: float) -> None:
    """Moved in place; value: float32 or float64."""
    count, device = average.numel(), average.device
    kernel = f"move_average<{'double' if value.dtype == torch.float64 else 'float'}>"
    arguments = (average, count, value, float(weight), float(1 - weight), weight < 0.5)
    launch(kernel, flat_grid(count, device), *arguments, device=device)


def level_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, rows: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean, inverse, slope, offset, unbiased variance)."""
    channels, device = mean.numel(), mean.device
    used, inverse, slope, offset, unbiased = (dense((channels,), torch.float32, device) for _ in range(5))
    launch(
        "level_line", flat_grid(channels, device, per_thread=1), channels, mean, variance, weight, bias,
        Double(rows / max(rows - 1, 1)), Double(eps), used, inverse, slope, offset, unbiased, device=device,
    )  # fmt: skip
    return used, inverse, slope, offset, unbiased


def level_gradient_line(
    sums: Tensor, rows: int, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(gradient of the weight, of the bias, and a, b, c of :func:`level_gradient`)."""
    channels, device = sums.shape[1], sums.device
    grad_weight, grad_bias, a, b, c = (dense((channels,), torch.float32, device) for _ in range(5))
    launch(
        "level_gradient_line", flat_grid(channels, device, per_thread=1),
        channels, sums, rows, inverse, weight, grad_weight, grad_bias, a, b, c, device=device,
    )  # fmt: skip
    return grad_weight, grad_bias, a, b, c


def encode_normalised_levels(x: Tensor, mean: Tensor, inverse: Tensor, thresholds: Tensor) -> Tensor:
    """Codes of (x - mean) * inverse per channel."""
    codes, device = dense(x.shape, torch.uint8, x.device), x.device
    arguments = (x, x.numel(), x.shape[1], mean, inverse, thresholds, thresholds.numel(), codes)
    launch("encode_normalised_levels", flat_grid(x.numel(), device), *arguments, device=device)
    return codes


def level_gradient_sums(g: Tensor, codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """float64 [2, C]: the sums of the masked gradient m and of m * table[code]. The same bits at every call."""
    (rows, channels), device = rows_and_channels(g), g.device
    sums = torch.zeros((2, channels), dtype=torch.float64, device=device)
    if not g.numel():
        return sums
    width = column_width(channels, g, codes, slope, offset)
    grid = column_grid(rows, channels, width, device)
    partials = torch.empty(grid[0] * channels * SUMS_BYTES, dtype=torch.uint8, device=device)
    launch(
        f"partial_level_gradient_sums<{width}>", grid,
        g, codes, rows, channels, table, slope, offset, relu, partials, device=device,
    )  # fmt: skip
    launch("finish_level_gradient_sums", channels, partials, grid[0], channels, sums, device=device)
    return sums


def level_gradient(
    g: Tensor,
    codes: Tensor,
    table: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    a: Tensor,
    b: Tensor,
    c: Tensor,
) -> Tensor:
    """(a * m + b) + c * table[code] with the masked gradient m."""
    result, device = dense(g.shape, torch.float32, g.device), g.device
    arguments = (g, codes, g.numel(), g.shape[1], table, slope, offset, relu, a, b, c, result)
    launch("level_gradient", flat_grid(g.numel(), device), *arguments, device=device)
    return result
