"""Bounded activations and their errors: launchers of bounded.cu. See :mod:`qbench.kernels.bounded`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qbench.kernels.cuda.encode import scale_of
from qbench.kernels.cuda.launch import Argument, flat_grid, launch
from qbench.kernels.cuda.layout import CODE_NAMES, dense, fresh_extremes, number, zero_extremes
from qbench.kernels.reference.encode import limits_of


def bounded_values(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, passed, unclipped."""
    value, passed, unclipped = dense(y.shape, torch.float32, y.device), _bits(y), _bits(y)
    arguments = (*_bounded(y, inverse, trunk, trunk_scale, relu, limit), value, passed, unclipped)
    launch(f"bounded_values<{_name(trunk, 'float')}>", _grid(y), *arguments, device=y.device)
    return value, passed, unclipped


def encode_bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Codes, scale, passed, unclipped."""
    codes, passed, unclipped = dense(y.shape, dtype, y.device), _bits(y), _bits(y)
    usable = float(scale) if math.isfinite(scale) else math.nan
    reported = torch.full((), usable, dtype=torch.float32, device=y.device)
    view = _bounded(y, inverse, trunk, trunk_scale, relu, limit)
    arguments = (*view, usable, *limits_of(dtype, low, high), reported, codes, passed, unclipped)
    kernel = f"encode_bounded<{_name(trunk, 'float')}, {CODE_NAMES[dtype]}>"
    launch(kernel, _grid(y), *arguments, device=y.device)
    return codes, reported, passed, unclipped


def encode_bounded_error(
    g: Tensor, joined: Tensor | None, joined_scale: Tensor | None, passed: Tensor, unclipped: Tensor, divisor: float,
    top: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Codes, scale."""
    codes, device = dense(g.shape, dtype, g.device), g.device
    if not g.numel():
        return codes, scale_of(zero_extremes(device), "power", divisor)[0]
    gradient, name = (g, g.numel(), joined, joined_scale), _name(joined, "i8")
    extremes, scale = fresh_extremes(device), number(device)
    launch(f"bounded_error_extremes<{name}>", _grid(g), *gradient, unclipped, extremes, device=device)
    kernel, limits = f"encode_bounded_error<{name}, {CODE_NAMES[dtype]}>", limits_of(dtype, -top, top)
    launch(kernel, _grid(g), *gradient, passed, extremes, float(divisor), *limits, scale, codes, device=device)
    return codes, scale


def _bits(like: Tensor) -> Tensor:
    return torch.empty(-(-like.numel() // 8), dtype=torch.uint8, device=like.device)


def _grid(x: Tensor) -> int:
    return flat_grid(x.numel(), x.device)


def _name(beside: Tensor | None, without: str) -> str:
    """The template argument for what is added. without: where nothing is."""
    return without if beside is None else "float" if beside.dtype == torch.float32 else CODE_NAMES[beside.dtype]


def _bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> tuple[Argument, ...]:
    return y, y.numel(), float(inverse), trunk, trunk_scale, relu, float(limit)
