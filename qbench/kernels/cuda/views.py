"""Passes over codes seen through a view: launchers of views.cu. See :mod:`qbench.kernels.passes`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.columns import column_grid, column_width
from qbench.kernels.cuda.encode import affine_parameters, affine_range, known_scale, scale_of
from qbench.kernels.cuda.launch import Argument, flat_grid, launch
from qbench.kernels.cuda.layout import (
    CODE_NAMES,
    dense,
    draw,
    draw_if,
    fresh_extremes,
    rows_and_channels,
    zero_extremes,
)
from qbench.kernels.reference.encode import limits_of

VIEW_BITS = 32
"""Elements marked in one word."""


def chunk_statistics(codes: Tensor, chunks: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sums int64 [C]; lowest and highest code uint8 [chunks, C] and the rows that first attain them, int64."""
    (rows, channels), device = rows_and_channels(codes), codes.device
    sums = torch.zeros(channels, dtype=torch.int64, device=device)
    shape = (chunks, channels)
    if not codes.numel():
        bounds = [torch.zeros(shape, dtype=dtype, device=device) for dtype in [torch.uint8] * 2 + [torch.int64] * 2]
        return sums, bounds[0], bounds[1], bounds[2], bounds[3]
    width = column_width(channels, codes)
    keys = torch.full((2, *shape), -1, dtype=torch.int64, device=device)  # as unsigned numbers the largest ones
    grid = column_grid(rows // chunks, channels, width, device, layers=chunks)
    launch(f"chunk_statistics<{width}>", grid, codes, rows // chunks, channels, sums, keys, device=device)
    lows, highs = (torch.empty(shape, dtype=torch.uint8, device=device) for _ in range(2))
    low_at, high_at = (torch.empty(shape, dtype=torch.int64, device=device) for _ in range(2))
    count = chunks * channels
    grid = (flat_grid(count, device, per_thread=1), 1, 1)
    launch("unpack_chunk_keys", grid, keys, count, lows, highs, low_at, high_at, device=device)
    return sums, lows, highs, low_at, high_at


def encode_affine_view(
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    key: Sequence[int] | None,
    at: Tensor | None,
    values: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Affine codes of the view, in which element at[p] has the value values[p]; scale; zero."""
    parameters = affine_range(codes.numel(), low, high, bits, integer_zero_point)
    encoder = (None, 0.0, 2.0**bits - 1, *draw_if(key))
    encoded = _encode_view(codes, slope, offset, relu, parameters, encoder, torch.uint8, at, values)
    *_, scale, zero = parameters
    return encoded, scale, zero


def encode_scaled_view(
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    magnitude: Tensor,
    kind: str,
    divisor: float,
    low: float,
    high: float,
    rounding: str,
    key: Sequence[int] | None,
    dtype: torch.dtype,
    at: Tensor | None,
    values: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Scaled codes of the view, in which element at[p] has the value values[p]; scale.

    A NaN of the view makes the scale NaN, one that ``values`` replaces too.
    """
    scale, reported = scale_of(magnitude, kind, divisor)
    encoder = (reported, *limits_of(dtype, low, high), *draw(rounding, key))
    return _encode_view(codes, slope, offset, relu, known_scale(scale), encoder, dtype, at, values), reported


def _encode_view(
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    parameters: tuple[Argument, ...],
    encoder: tuple[Argument, ...],
    dtype: torch.dtype,
    at: Tensor | None,
    values: Tensor | None,
) -> Tensor:
    """parameters: range, scale and zero; encoder: scale to report, bounds and rounding, as the kernels take them."""
    encoded, name, device = dense(codes.shape, dtype, codes.device), CODE_NAMES[dtype], codes.device
    view = (codes, codes.numel(), codes.shape[1], slope, offset, relu)
    launch(
        f"encode_view<{name}>", flat_grid(codes.numel(), device), *view, *parameters, *encoder, encoded, device=device
    )
    if at is not None and values is not None:
        grid = flat_grid(at.numel(), device, per_thread=1)
        of_all = (*parameters[-2:], *encoder)
        launch(f"encode_elements<{name}>", grid, at, values, at.numel(), *of_all, encoded, device=device)
    return encoded


def view_extremes(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, at: Tensor | None, values: Tensor | None
) -> Tensor:
    """[min, max] of the view, in which element at[p] has the value values[p]."""
    count, device = codes.numel(), codes.device
    if not count:
        return zero_extremes(device)
    target, marked = fresh_extremes(device), None
    if at is not None and values is not None and at.numel():
        marked = torch.zeros(-(-count // VIEW_BITS), dtype=torch.int32, device=device)
        launch("mark_elements", flat_grid(at.numel(), device, per_thread=1), at, at.numel(), marked, device=device)
        launch("tensor_extremes", flat_grid(at.numel(), device), values, at.numel(), target, device=device)
    view = (codes, count, codes.shape[1], slope, offset, relu)
    launch("view_extremes", flat_grid(count, device), *view, marked, target, device=device)
    return target


def affine_view(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """relu(slope * code + offset + trunk), its extremes, and the packed bits [value > 0] if ``relu``."""
    return finished_view(codes, None, slope, offset, relu, trunk)


def level_view(
    codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`affine_view` with table[code] in place of the code."""
    return finished_view(codes, table, slope, offset, relu, trunk)


def finished_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Both of the above."""
    count, device = codes.numel(), codes.device
    value = dense(codes.shape, torch.float32, device)
    mask = torch.empty(-(-count // 8) if relu else 0, dtype=torch.uint8, device=device)
    if not count:
        return value, zero_extremes(device), mask
    extremes = fresh_extremes(device)
    grid = flat_grid(count, device, per_thread=8)
    view = (codes, count, codes.shape[1], table, slope, offset, relu, trunk)
    launch("finished_view", grid, *view, value, extremes, mask, device=device)
    return value, extremes, mask


def apply_mask(g: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``g`` where its bit is set, else 0; and the extremes of that."""
    masked = dense(g.shape, torch.float32, g.device)
    if not g.numel():
        return masked, zero_extremes(g.device)
    extremes = fresh_extremes(g.device)
    launch("apply_mask", flat_grid(g.numel(), g.device), g, mask, g.numel(), masked, extremes, device=g.device)
    return masked, extremes


def rectify(x: Tensor, trunk: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """max(x + trunk, 0), its extremes, and the packed bits of what is not 0."""
    (count, device), value = (x.numel(), x.device), dense(x.shape, torch.float32, x.device)
    mask = torch.empty(-(-count // 8), dtype=torch.uint8, device=device)
    if not count:
        return value, zero_extremes(device), mask
    extremes = fresh_extremes(device)
    launch("rectify", flat_grid(count, device), x, count, trunk, value, mask, extremes, device=device)
    return value, extremes, mask


def join_gradients(codes: Tensor, scale: Tensor, g: Tensor | None, mask: Tensor | None) -> Tensor:
    """g + scale * codes where its bit is set, else 0."""
    result, count, device = dense(codes.shape, torch.float32, codes.device), codes.numel(), codes.device
    kernel = f"join_gradients<{CODE_NAMES[codes.dtype]}>"
    launch(kernel, flat_grid(count, device), codes, count, scale, g, mask, result, device=device)
    return result


def view_gradient_extremes(g: Tensor, codes: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """[min, max] of g where the view before the ReLU is positive, 0 elsewhere; of all of g without ``relu``."""
    if not g.numel():
        return zero_extremes(g.device)
    extremes = fresh_extremes(g.device)
    arguments = (g, codes, g.numel(), g.shape[1], slope, offset, relu, extremes)
    launch("view_gradient_extremes", flat_grid(g.numel(), g.device), *arguments, device=g.device)
    return extremes


def encode_view_gradient_(
    g: Tensor,
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    key: Sequence[int] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Affine codes e of that masked gradient (up to 8 bits), written over the codes; scale, zero, and sums of e and of
    e * code, int64 [2, C]."""
    (rows, channels), device = rows_and_channels(g), g.device
    scale, zero = affine_parameters(low, high, bits, integer_zero_point)
    sums = torch.zeros((2, channels), dtype=torch.int64, device=device)
    if g.numel():
        width = column_width(channels, g, codes, slope, offset)
        launch(
            f"encode_view_gradient<{width}>", column_grid(rows, channels, width, device),
            g, codes, rows, channels, slope, offset, relu, scale, zero, 2.0**bits - 1, *draw_if(key), sums,
            device=device,
        )  # fmt: skip
    return scale, zero, sums
