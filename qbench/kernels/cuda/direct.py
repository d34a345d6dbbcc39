"""Batch norm on direct grids and its gradient: launchers of direct.cu. See :mod:`qbench.kernels.direct`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.columns import column_grid, column_width
from qbench.kernels.cuda.launch import Argument, Double, flat_grid, launch
from qbench.kernels.cuda.layout import (
    CODE_NAMES,
    dense,
    fresh_extremes,
    rows_and_channels,
    zero_extremes,
)
from qbench.kernels.reference.encode import limits_of

SUMS_BYTES = 24
"""Of one channel's partial result: three float64."""


def direct_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, grids: Sequence[float], unit: float, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean on its grid, inverse, slope, offset, weight on its grid, 1 / deviation or 0, mean's shift by rounding)."""
    channels, device = mean.numel(), mean.device
    used, inverse, slope, offset, rounded, over_deviation, shift = (
        dense((channels,), torch.float32, device) for _ in range(7)
    )
    launch(
        "direct_line", flat_grid(channels, device, per_thread=1),
        channels, mean, variance, weight, bias, *map(float, grids), float(unit), float(eps),
        used, inverse, slope, offset, rounded, over_deviation, shift, device=device,
    )  # fmt: skip
    return used, inverse, slope, offset, rounded, over_deviation, shift


def direct_gradient_line(
    sums: Tensor, rows: int, unit: float, inverse: Tensor, weight: Tensor, over_deviation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(gradient of the weight, of the bias, and a, b, c of :func:`direct_gradient`)."""
    channels, device = sums.shape[1], sums.device
    grad_weight, grad_bias, a, b, c = (dense((channels,), torch.float32, device) for _ in range(5))
    launch(
        "direct_gradient_line", flat_grid(channels, device, per_thread=1),
        channels, sums, rows, Double(unit), inverse, weight, over_deviation, shift, grad_weight, grad_bias, a, b, c,
        device=device,
    )  # fmt: skip
    return grad_weight, grad_bias, a, b, c


def direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    trunk: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """relu(value + trunk), and the packed bits [relu(...) > 0] if ``relu``."""
    count, device = x.numel(), x.device
    value = dense(x.shape, torch.float32, device)
    mask = torch.empty(-(-count // 8) if relu else 0, dtype=torch.uint8, device=device)
    view = _view(x, mean, inverse, unit, top, slope, offset, relu)
    launch("direct_view", flat_grid(count, device, per_thread=8), *view, trunk, value, mask, device=device)
    return value, mask


def encode_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Codes clip(round(relu(value) / scale), low, high) in ``dtype``, and the scale, NaN where a value is."""
    codes, device = dense(x.shape, dtype, x.device), x.device
    usable = float(scale) if math.isfinite(scale) else math.nan
    reported = torch.full((), usable, dtype=torch.float32, device=device)
    view = _view(x, mean, inverse, unit, top, slope, offset, relu)
    arguments = (*view, usable, *limits_of(dtype, low, high), reported, codes)
    launch(f"encode_direct_view<{CODE_NAMES[dtype]}>", flat_grid(x.numel(), device), *arguments, device=device)
    return codes, reported


def direct_gradient_sums(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool,
) -> Tensor:  # fmt: skip
    """float64 [3, C]: the sums of m, of m * t and of m * z. The same bits at every call."""
    (rows, channels), device = rows_and_channels(x), x.device
    sums = torch.zeros((3, channels), dtype=torch.float64, device=device)
    if not x.numel():
        return sums
    width = column_width(channels, g, x, mean, inverse, slope, offset)
    grid = column_grid(rows, channels, width, device)
    partials = torch.empty(grid[0] * channels * SUMS_BYTES, dtype=torch.uint8, device=device)
    line = (mean, inverse, float(unit), float(top), slope, offset, relu)
    launch(
        f"partial_direct_gradient_sums<{width}, {_name(g)}>", grid,
        g, g_scale, x, rows, channels, *line, partials, device=device,
    )  # fmt: skip
    launch("finish_direct_gradient_sums", channels, partials, grid[0], channels, sums, device=device)
    return sums


def direct_gradient(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool, a: Tensor, b: Tensor, c: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(a * m + b) + c * z, each operation rounded to float32, and its extremes."""
    result, device = dense(x.shape, torch.float32, x.device), x.device
    if not x.numel():
        return result, zero_extremes(device)
    extremes = fresh_extremes(device)
    view = _view(x, mean, inverse, unit, top, slope, offset, relu)
    arguments = (g, g_scale, *view, a, b, c, result, extremes)
    launch(f"direct_gradient<{_name(g)}>", flat_grid(x.numel(), device), *arguments, device=device)
    return result, extremes


def _view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool
) -> tuple[Argument, ...]:
    return x, x.numel(), x.shape[1], mean, inverse, float(unit), float(top), slope, offset, relu


def _name(g: Tensor) -> str:
    return CODE_NAMES.get(g.dtype, "float")
