"""Batch norm on direct grids with ReLU and residual addition, and its gradient (Yang et al. 2020, section III).

Tensors are [N, C] or [N, C, H, W]; C is the channel, the N * H * W elements of a channel are its rows. Memory is dense,
channels-last with four dimensions (anything else is copied into it). With vectors [C] of float32, per element

    z = (x - mean) * inverse                      t = clip(round(z * unit), -top, top)
    v = slope * t + offset (+ trunk)              y = max(v, 0) if ``relu``, else v

every operation rounded to float32, halves to even, NaN passed on. unit: steps of t per unit of z. top: the largest t, a
whole number up to 2^24. x is float32 and is all that has to be kept: each pass makes z and t anew.

g is the gradient at y: float32, or int8 or int16 codes with their scale g_scale (0-d float32); m = g where v (without
trunk) is positive, 0 elsewhere; all of g without ``relu``. Every function raises TypeError or ValueError with one
sentence for arguments that do not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qbench.kernels.checks import (
    GRADIENT_CODES,
    dense,
    dense_like,
    each_per_channel,
    norm_vectors,
    require_like,
    require_number,
    require_rows,
    require_signed,
    require_type,
)
from qbench.kernels.library import ops

LARGEST_CODE = 2.0**24
"""What float32 holds together with every integer below."""

GRID_NUMBERS = 6


class DirectLine(NamedTuple):
    """What :func:`direct_line` returns, float32 [C] each. mean, inverse, slope and offset as above; weight on its grid;
    over_deviation: 1 / deviation, 0 for a deviation of 0; shift: mean before rounding minus ``mean``."""

    mean: Tensor
    inverse: Tensor
    slope: Tensor
    offset: Tensor
    weight: Tensor
    over_deviation: Tensor
    shift: Tensor


class DirectGradientLine(NamedTuple):
    """What :func:`direct_gradient_line` returns: gradients of weight and bias, and a, b, c of
    :func:`direct_gradient`; float32 [C] each."""

    grad_weight: Tensor
    grad_bias: Tensor
    a: Tensor
    b: Tensor
    c: Tensor


def direct_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, grids: Sequence[float], unit: float, eps: float
) -> DirectLine:
    """The norm's vectors, from a batch's mean and variance (float64 [C]) and weight and bias (float32 [C]).

    grids: steps per unit and largest code of the mean's grid, of the deviation's, and of that of weight and bias:
    Q(v) = clip(round(v * steps), -largest, largest) / steps. With m and d the mean and sqrt(variance) in float32,
    mean = Q(m), inverse = 1 / (Q(d) + eps), slope = Q(weight) / unit, offset = Q(bias).
    """
    vectors = norm_vectors(mean, variance, weight, bias)
    if len(grids) != GRID_NUMBERS:
        raise ValueError(f"three grids have {GRID_NUMBERS} numbers, got {len(grids)}")
    return DirectLine._make(ops.direct_line(*vectors, list(grids), unit, eps))


def direct_gradient_line(
    sums: Tensor, rows: int, unit: float, inverse: Tensor, weight: Tensor, over_deviation: Tensor, shift: Tensor
) -> DirectGradientLine:
    """Gradients of weight and bias and the line of the input's gradient, from the sums of :func:`direct_gradient_sums`
    over ``rows`` rows and the vectors of the same names in :class:`DirectLine`.

    With S the sums, all in float64: pull = S[2] / rows * over_deviation, grad_bias = S[0], grad_weight = S[1] / unit,
    a = weight * inverse, b = a * (shift * pull - S[0] / rows), c = -weight * pull.
    """
    require_type(sums, "sums", torch.float64)
    if sums.dim() != 2 or len(sums) != 3:
        raise ValueError(f"sums must be [3, C], got shape {tuple(sums.shape)}")
    vectors = each_per_channel(
        sums.shape[1], inverse=inverse, weight=weight, over_deviation=over_deviation, shift=shift
    )
    return DirectGradientLine._make(ops.direct_gradient_line(sums.contiguous(), rows, unit, *vectors))


def direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    trunk: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y float32 of x's shape, and the mask: bit i % 8 of byte i // 8 is [y > 0] of element i (uint8, flat; empty
    without ``relu``). trunk: float32 of x's shape."""
    view = checked_view(x, mean, inverse, unit, top, slope, offset, relu)
    trunk = None if trunk is None else dense_like(trunk, "trunk", x, "x")
    result: tuple[Tensor, Tensor] = ops.direct_view(*view, trunk)
    return result


def encode_direct_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """y as signed codes clip(round(y / scale), low, high) in ``dtype``, and the scale (0-d float32): as
    :func:`~qbench.kernels.encoding.encode_scaled` of a fixed scale, rounding to nearest."""
    view = checked_view(x, mean, inverse, unit, top, slope, offset, relu)
    require_signed(dtype)
    result: tuple[Tensor, Tensor] = ops.encode_direct_view(*view, scale, low, high, dtype)
    return result


def direct_gradient_sums(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool,
) -> Tensor:  # fmt: skip
    """float64 [3, C]: per channel the sums of m, of m * t and of m * z. Their order differs between backends."""
    view = checked_view(x, mean, inverse, unit, top, slope, offset, relu)
    result: Tensor = ops.direct_gradient_sums(*_gradient(g, g_scale, x), *view)
    return result


def direct_gradient(
    g: Tensor, g_scale: Tensor | None, x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor,
    offset: Tensor, relu: bool, a: Tensor, b: Tensor, c: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(a * m + b) + c * z, each operation rounded to float32, and its extremes, float32 [min, max] (both NaN where one
    is among the values, both 0 for an empty tensor); a, b, c: float32 [C]."""
    view = checked_view(x, mean, inverse, unit, top, slope, offset, relu)
    line = each_per_channel(x.shape[1], a=a, b=b, c=c)
    result: tuple[Tensor, Tensor] = ops.direct_gradient(*_gradient(g, g_scale, x), *view, *line)
    return result


def checked_view(
    x: Tensor, mean: Tensor, inverse: Tensor, unit: float, top: float, slope: Tensor, offset: Tensor, relu: bool
) -> tuple[Tensor, Tensor, Tensor, float, float, Tensor, Tensor, bool]:
    """What every pass over x begins with, checked and dense."""
    require_rows(x, "x", torch.float32)
    if not 1 <= top <= LARGEST_CODE or top != int(top):
        raise ValueError(f"top must be a whole number from 1 to 2^24, got {top}")
    mean, inverse, slope, offset = each_per_channel(x.shape[1], mean=mean, inverse=inverse, slope=slope, offset=offset)
    return dense(x), mean, inverse, unit, top, slope, offset, relu


def _gradient(g: Tensor, g_scale: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor | None]:
    if g_scale is None:
        require_type(g, "g without a scale", torch.float32)
    else:
        require_type(g, "g with a scale", *GRADIENT_CODES)
        require_number(g_scale, "g_scale")
    require_like(g, "g", x, "x")
    return dense(g), g_scale
