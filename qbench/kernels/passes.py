"""Passes over channels-last tensors: statistics, encoding and gradients of codes that are read through a view.

Tensors are [N, C] or [N, C, H, W]; C is the channel, the N * H * W elements of a channel are its rows, in that order.
Memory is dense, channels-last with four dimensions (anything else is copied into it), and an element's index, where one
is named, is its place in that memory.

A view reads codes as values: slope[c] * code + offset[c], two roundings to float32, then max(value, 0) if ``relu``
(NaN stays). slope, offset: float32 [C]. With a table (float32, one value per code), table[code] stands for the code.

The rounding rules, and what a NaN does, are those of :mod:`qbench.kernels.encoding`. Extremes are float32 [min, max]:
both NaN where one is among the values, both 0 for an empty tensor. Every function raises TypeError or ValueError with
one sentence for arguments that do not fit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from qbench.kernels.checks import (
    GRADIENT_CODES,
    Draws,
    dense,
    dense_like,
    each_per_channel,
    elements_of,
    mask_of,
    norm_vectors,
    require_chunks,
    require_dense,
    require_like,
    require_number,
    require_rows,
    require_type,
    view_line,
    words,
)
from qbench.kernels.encoding import check_affine, check_magnitude, check_scaled, checked_table, checked_thresholds
from qbench.kernels.library import ops


def chunk_statistics(codes: Tensor, chunks: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Statistics of uint8 codes, with the rows split in ``chunks`` equal consecutive parts.

    Returns the codes' sums int64 [C]; the lowest and highest code of each part, uint8 [chunks, C]; and the row (of the
    whole tensor) that first attains each, int64 [chunks, C]. All zero where there are no rows.
    Raises ValueError unless ``chunks`` divides the number of rows.
    """
    require_rows(codes, "codes", torch.uint8)
    require_chunks(codes, chunks)
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = ops.chunk_statistics(dense(codes), chunks)
    return result


def encode_affine_view(
    codes: Tensor,
    slope: Tensor,
    offset: Tensor,
    relu: bool,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    key: Draws = None,
    at: Tensor | None = None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`~qbench.kernels.encoding.encode_affine` of a view of uint8 codes, with 0-d low and high, up to 8 bits.

    at, values: element at[p] (int64 [P]) has the value values[p] (float32 [P]) instead; an element that is named twice
    needs the same value twice. Raises ValueError for an element that does not exist, where the host can see it (on a
    CPU).
    Returns uint8 codes, scale, zero.
    """
    slope, offset = view_line(codes, slope, offset)
    check_affine(low, high, bits)
    at, values = _replaced(at, values, codes)
    result: tuple[Tensor, Tensor, Tensor] = ops.encode_affine_view(
        dense(codes), slope, offset, relu, low, high, bits, integer_zero_point, words(key), at, values
    )
    return result


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
    key: Draws,
    dtype: torch.dtype,
    at: Tensor | None = None,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """:func:`~qbench.kernels.encoding.encode_scaled` of a view of uint8 codes; ``at`` and ``values`` as in
    :func:`encode_affine_view`. Returns codes in ``dtype`` and the scale."""
    slope, offset = view_line(codes, slope, offset)
    check_scaled(kind, rounding, key, dtype)
    check_magnitude(magnitude, kind)
    at, values, magnitude = *_replaced(at, values, codes), dense(magnitude)
    result: tuple[Tensor, Tensor] = ops.encode_scaled_view(
        dense(codes), slope, offset, relu, magnitude, kind, divisor, low, high, rounding, words(key), dtype, at, values
    )
    return result


def view_extremes(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, at: Tensor | None = None, values: Tensor | None = None
) -> Tensor:
    """[min, max] of a view of uint8 codes; ``at`` and ``values`` as in :func:`encode_affine_view`."""
    slope, offset = view_line(codes, slope, offset)
    at, values = _replaced(at, values, codes)
    result: Tensor = ops.view_extremes(dense(codes), slope, offset, relu, at, values)
    return result


def affine_view(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """value = slope[c] * code + offset[c] (+ trunk), then max(value, 0) if ``relu``; three roundings.

    trunk: float32 of codes' shape. Returns value float32, its extremes, and the mask: bit i % 8 of byte i // 8 is
    [value > 0] of element i (uint8, flat; empty without ``relu``).
    """
    slope, offset = view_line(codes, slope, offset)
    trunk = None if trunk is None else dense_like(trunk, "trunk", codes, "codes")
    result: tuple[Tensor, Tensor, Tensor] = ops.affine_view(dense(codes), slope, offset, relu, trunk)
    return result


def apply_mask(g: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """``g`` (float32) where its bit in ``mask`` is set, else 0; and the extremes of that."""
    require_type(g, "g", torch.float32)
    mask = mask_of(mask, g.numel())
    result: tuple[Tensor, Tensor] = ops.apply_mask(dense(g), mask)
    return result


def rectify(x: Tensor, trunk: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """value = max(x + trunk, 0), NaN where the sum is; x, trunk: float32 of one shape, any; nothing is added without
    ``trunk``.

    Returns value float32, its extremes, and the mask: bit i % 8 of byte i // 8 is [value != 0] of element i (uint8,
    flat), so that the gradient of NaN passes. Raises TypeError and ValueError for arguments that do not fit.
    """
    require_type(x, "x", torch.float32)
    trunk = None if trunk is None else dense_like(trunk, "trunk", x, "x")
    result: tuple[Tensor, Tensor, Tensor] = ops.rectify(dense(x), trunk)
    return result


def join_gradients(codes: Tensor, scale: Tensor, g: Tensor | None, mask: Tensor | None) -> Tensor:
    """g + scale * codes (float32) where its bit in ``mask`` is set, else 0; two roundings.

    codes: int8 or int16; scale: 0-d float32; g: float32 of codes' shape, nothing is added without it; mask: None for
    all ones. Raises TypeError and ValueError for arguments that do not fit.
    """
    require_type(codes, "codes", *GRADIENT_CODES)
    require_number(scale, "scale")
    g = None if g is None else dense_like(g, "g", codes, "codes")
    mask = None if mask is None else mask_of(mask, codes.numel())
    result: Tensor = ops.join_gradients(dense(codes), scale, g, mask)
    return result


def view_gradient_extremes(g: Tensor, codes: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """[min, max] of m = g where slope[c] * code + offset[c] > 0, else 0; of g itself without ``relu``.

    g: float32; codes: uint8 of its shape.
    """
    slope, offset = view_line(codes, slope, offset)
    g = dense_like(g, "g", codes, "codes")
    result: Tensor = ops.view_gradient_extremes(g, dense(codes), slope, offset, relu)
    return result


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
    key: Draws = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`~qbench.kernels.encoding.encode_affine` of m (see :func:`view_gradient_extremes`), up to 8 bits.

    Its codes e take the place of ``codes``, which must be dense.
    Returns scale, zero, and int64 [2, C]: per channel the sums of e and of e * code.
    """
    slope, offset = view_line(codes, slope, offset)
    g = dense_like(g, "g", codes, "codes")
    check_affine(low, high, bits)
    require_dense(codes, "codes")
    result: tuple[Tensor, Tensor, Tensor] = ops.encode_view_gradient_(
        g, codes, slope, offset, relu, low, high, bits, integer_zero_point, words(key)
    )
    increment_version(codes)
    return result


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Per channel of float32 x: mean and biased variance, float64 [C], and min and max, float32 [C].

    The sums are float64 in an order that differs between backends. All zero where there are no rows.
    """
    require_rows(x, "x", torch.float32)
    result: tuple[Tensor, Tensor, Tensor, Tensor] = ops.moments(dense(x))
    return result


def move_average_(average: Tensor, value: Tensor, weight: float) -> None:
    """Move a running average in place: average + weight * (value - average), or the same from the other end, value -
    (1 - weight) * (value - average), where ``weight`` is 1/2 or more: at 1 it is the value.

    average: float32, dense; value: float32 or float64 of its shape, rounded to float32 first. weight: of the value,
    from 0 to 1. Each operation is rounded to float32.
    """
    require_type(average, "average", torch.float32)
    require_type(value, "value", torch.float32, torch.float64)
    require_like(value, "value", average, "average")
    require_dense(average, "average")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be from 0 to 1, got {weight}")
    ops.move_average_(average, dense(value), weight)
    increment_version([average])


class LevelLine(NamedTuple):
    """What :func:`level_line` returns, float32 [C] each."""

    mean: Tensor
    inverse: Tensor
    slope: Tensor
    offset: Tensor
    unbiased: Tensor


class LevelGradientLine(NamedTuple):
    """What :func:`level_gradient_line` returns: gradients of weight and bias, and a, b, c of :func:`level_gradient`;
    float32 [C] each."""

    grad_weight: Tensor
    grad_bias: Tensor
    a: Tensor
    b: Tensor
    c: Tensor


def level_line(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, rows: int, eps: float) -> LevelLine:
    """The vectors of a norm on levels (Graham 2017), from a batch's mean and biased variance (float64 [C]) over
    ``rows`` rows and weight and bias (float32 [C]).

    inverse = 1 / sqrt(variance + eps), slope = weight, offset = bias, NaN where inverse is not finite: such a channel
    has no levels. unbiased = variance * rows / (rows - 1), or the variance of a single row. In float64 until they are
    done.
    """
    return LevelLine._make(ops.level_line(*norm_vectors(mean, variance, weight, bias), rows, eps))


def level_gradient_line(sums: Tensor, rows: int, inverse: Tensor, weight: Tensor) -> LevelGradientLine:
    """Gradients of weight and bias and the line of the input's gradient, from the sums S of
    :func:`level_gradient_sums` over ``rows`` rows.

    In float64: grad_bias = S[0], grad_weight = S[1], a = weight * inverse, b = -a * S[0] / rows, c = -a * S[1] / rows.
    """
    require_type(sums, "sums", torch.float64)
    if sums.dim() != 2 or len(sums) != 2:
        raise ValueError(f"sums must be [2, C], got shape {tuple(sums.shape)}")
    vectors = each_per_channel(sums.shape[1], inverse=inverse, weight=weight)
    return LevelGradientLine._make(ops.level_gradient_line(sums.contiguous(), rows, *vectors))


def encode_normalised_levels(x: Tensor, mean: Tensor, inverse: Tensor, thresholds: Tensor) -> Tensor:
    """:func:`~qbench.kernels.encoding.encode_levels` of (x - mean[c]) * inverse[c], two roundings to float32.

    x: float32; mean, inverse: float32 [C]. Returns uint8 codes.
    """
    require_rows(x, "x", torch.float32)
    mean, inverse = each_per_channel(x.shape[1], mean=mean, inverse=inverse)
    thresholds = checked_thresholds(thresholds)
    result: Tensor = ops.encode_normalised_levels(dense(x), mean, inverse, thresholds)
    return result


def level_view(
    codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`affine_view` with table[code] in place of the code."""
    slope, offset = view_line(codes, slope, offset)
    table = checked_table(table)
    trunk = None if trunk is None else dense_like(trunk, "trunk", codes, "codes")
    result: tuple[Tensor, Tensor, Tensor] = ops.level_view(dense(codes), table, slope, offset, relu, trunk)
    return result


def level_gradient_sums(g: Tensor, codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """float64 [2, C]: per channel the sums of m and of m * table[code], with m = g where
    slope[c] * table[code] + offset[c] > 0, else 0 (m = g without ``relu``). The order of the sums differs between
    backends."""
    slope, offset = view_line(codes, slope, offset)
    table = checked_table(table)
    g = dense_like(g, "g", codes, "codes")
    result: Tensor = ops.level_gradient_sums(g, dense(codes), table, slope, offset, relu)
    return result


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
    """(a[c] * m + b[c]) + c[c] * table[code], each operation rounded to float32, with m as in
    :func:`level_gradient_sums`; a, b, c: float32 [C]."""
    slope, offset = view_line(codes, slope, offset)
    table = checked_table(table)
    g = dense_like(g, "g", codes, "codes")
    line = each_per_channel(codes.shape[1], a=a, b=b, c=c)
    result: Tensor = ops.level_gradient(g, dense(codes), table, slope, offset, relu, *line)
    return result


def _replaced(at: Tensor | None, values: Tensor | None, codes: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Elements of ``codes`` to replace and their values, checked and contiguous; of indices on a GPU the host knows
    nothing."""
    if at is None and values is None:
        return None, None
    if at is None or values is None:
        raise ValueError("at and values go together: the elements to replace and what by")
    at, values = elements_of(at, values)
    if type(at) is Tensor and at.is_cpu and at.numel():  # not one that is traced and has no values
        lowest, highest = (int(end) for end in torch.aminmax(at))
        if lowest < 0 or highest >= codes.numel():
            raise ValueError(f"at must name elements from 0 to {codes.numel() - 1}, got {lowest} to {highest}")
    return at, values
