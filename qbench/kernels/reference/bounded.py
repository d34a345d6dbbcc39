"""Bounded activations behind a layer scale and their errors (Wu et al. 2018). See :mod:`qbench.kernels.bounded`."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference import encode
from qbench.kernels.reference.encode import extremes, number
from qbench.kernels.reference.packing import marked, marks
from qbench.kernels.reference.passes import join_gradients


def bounded_values(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The values, and the packed bits of those whose gradient passes and of those that were not clipped."""
    v = y * number(inverse, y)
    if trunk is not None:
        v = v + (trunk if trunk_scale is None else trunk.float() * trunk_scale)
    top = number(limit, v)
    is_clipped = v > top if relu else (v > top) | (v < -top)
    is_masked = is_clipped | (v <= 0) if relu else is_clipped
    value = torch.maximum(v, torch.zeros_like(top) if relu else -top).minimum(top)  # which pass NaN on
    return dense(value), marks(~is_masked), marks(~is_clipped)


def encode_bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Codes of the values in ``dtype``, the scale, NaN where a value is, and the bits of :func:`bounded_values`."""
    value, passed, unclipped = bounded_values(y, inverse, trunk, trunk_scale, relu, limit)
    grid = (number(scale, y), "fixed", 1.0, low, high)
    return *encode.encode_scaled(value, *grid, "nearest", None, dtype), passed, unclipped


def encode_bounded_error(
    g: Tensor, joined: Tensor | None, joined_scale: Tensor | None, passed: Tensor, unclipped: Tensor, divisor: float,
    top: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Codes of the error in ``dtype``, and the scale."""
    if joined is not None and joined_scale is not None:
        g = join_gradients(joined, joined_scale, g, None)
    error = torch.where(marked(unclipped, g), g, 0.0)
    codes, scale = encode.encode_scaled(error, extremes(error), "power", divisor, -top, top, "nearest", None, dtype)
    return dense(torch.where(marked(passed, g), codes, torch.zeros_like(codes))), scale
