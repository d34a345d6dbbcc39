"""Batch norm on direct grids in C++: as :mod:`qbench.kernels.reference.direct`, bit for bit but for the order of sums
in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import TYPES, call, floats, number, pointer


def direct_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, grids: Sequence[float], unit: float, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean on its grid, inverse, slope, offset, weight on its grid, 1 / deviation or 0, mean's shift by rounding)."""
    channels = mean.numel()
    used, inverse, slope, offset, rounded, over_deviation, shift = (floats(channels) for _ in range(7))
    call(
        "direct_line", channels, mean.data_ptr(), variance.data_ptr(), weight.data_ptr(), bias.data_ptr(),
        (ctypes.c_double * len(grids))(*grids), unit, eps, used.data_ptr(), inverse.data_ptr(), slope.data_ptr(),
        offset.data_ptr(), rounded.data_ptr(), over_deviation.data_ptr(), shift.data_ptr(),
    )  # fmt: skip
    return used, inverse, slope, offset, rounded, over_deviation, shift


def direct_gradient_line(
    sums: Tensor, rows: int, unit: float, inverse: Tensor, weight: Tensor, over_deviation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(gradient of the weight, of the bias, and a, b, c of :func:`direct_gradient`)."""
    channels = sums.shape[1]
    grad_weight, grad_bias, a, b, c = (floats(channels) for _ in range(5))
    call(
        "direct_gradient_line", channels, sums.data_ptr(), rows, unit, inverse.data_ptr(), weight.data_ptr(),
        over_deviation.data_ptr(), shift.data_ptr(), grad_weight.data_ptr(), grad_bias.data_ptr(), a.data_ptr(),
        b.data_ptr(), c.data_ptr(),
    )  # fmt: skip
    return grad_weight, grad_bias, a, b, c


def direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    trunk: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Value, mask."""
    value = torch.empty_like(x)
    mask = torch.empty((x.numel() + 7) // 8 if relu else 0, dtype=torch.uint8)
    call(
        "direct_view", *_view(x, mean, inverse, unit, top, slope, offset, relu), pointer(trunk), value.data_ptr(),
        mask.data_ptr(),
    )  # fmt: skip
    return value, mask


def encode_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Codes, scale."""
    codes, reported = torch.empty_like(x, dtype=dtype), number()
    call(
        "encode_direct_view", *_view(x, mean, inverse, unit, top, slope, offset, relu), scale, low, high,
        TYPES.index(dtype), codes.data_ptr(), reported.data_ptr(),
    )  # fmt: skip
    return codes, reported


def direct_gradient_sums(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool,
) -> Tensor:  # fmt: skip
    """Sums float64 [3, C]."""
    sums = torch.empty((3, x.shape[1]), dtype=torch.float64)
    view = _view(x, mean, inverse, unit, top, slope, offset, relu)
    call("direct_gradient_sums", *_gradient(g, g_scale), *view, sums.data_ptr())
    return sums


def direct_gradient(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool, a: Tensor, b: Tensor, c: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradient of the normalisation's input, extremes."""
    result, extremes = torch.empty_like(x), floats(2)
    call(
        "direct_gradient", *_gradient(g, g_scale), *_view(x, mean, inverse, unit, top, slope, offset, relu),
        a.data_ptr(), b.data_ptr(), c.data_ptr(), result.data_ptr(), extremes.data_ptr(),
    )  # fmt: skip
    return result, extremes


def _view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool
) -> tuple[int, int, int, int, int, float, float, int, int, bool]:
    rows = x.shape[0] * x.shape[2:].numel()
    line = (mean.data_ptr(), inverse.data_ptr(), unit, top, slope.data_ptr(), offset.data_ptr())
    return x.data_ptr(), rows, x.shape[1], *line, relu


def _gradient(g: Tensor, g_scale: Tensor | None) -> tuple[int, int, int | None]:
    """Gradient, the number of its codes' type (negative for floats), and their scale."""
    return g.data_ptr(), TYPES.index(g.dtype) if g_scale is not None else -1, pointer(g_scale)
