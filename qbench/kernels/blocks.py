"""Blocks of kernels that follow each other in every layer: one operator each, so that a step makes few calls.

Range batch norm on codes (Banner et al. 2018). Codes q of a tensor of ``rows`` rows and C channels stand for
scale * (q - zero). Per channel, in float64:

    m = mean(q)    D = constant * scale * mean over chunks of (max q - min q) + eps
    y = weight * scale * (q - m) / D + bias                     = slope * q + offset, slope 0 where all q are the same
    gradient codes e stand for se * (e - ze); with sums S = sum(e - ze), T = sum((e - ze) (q - m)):
    d weight = se * scale * T / D,   d bias = se * S
    dx = weight * se * (e - ze - S / rows) / D                  = slope * e + offset, and at the extremes
    dx -= pull at each chunk's maximum, dx += pull at its minimum, pull = constant / chunks * weight * d weight / D

All vectors are [C]. The results are the same bit for bit on every backend. Tensors are [N, C, H, W] or [N, C]; what is
not said to be checked is trusted: it comes from other kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from qbench.kernels.checks import (
    Draws,
    dense,
    dense_like,
    each_per_channel,
    elements_of,
    mask_of,
    require_bits,
    require_chunks,
    require_dense,
    require_like,
    require_number,
    require_rows,
    require_type,
    view_line,
    words,
)
from qbench.kernels.encoding import MOST_AFFINE_BITS, check_affine, check_magnitude, check_scaled
from qbench.kernels.library import ops
from qbench.kernels.pooling import Pooled


class Normalised(NamedTuple):
    """What :func:`range_norm` returns. codes uint8, of the input's shape; scale, zero 0-d; slope, offset, batch_mean
    and spread (D) float32 [C]; mean of the codes and inverse (1 / D) float64 [C]; extremes of the output float32 [2],
    exact because rounding is monotone; low_at, high_at: rows of the chunks' extremes, int64 [chunks, C]."""

    codes: Tensor
    scale: Tensor
    zero: Tensor
    slope: Tensor
    offset: Tensor
    mean: Tensor
    inverse: Tensor
    batch_mean: Tensor
    spread: Tensor
    extremes: Tensor
    low_at: Tensor
    high_at: Tensor


class NormGradient(NamedTuple):
    """What :func:`range_norm_gradient_` returns. codes uint8, scale, zero: of the gradient at the norm's output.
    masked: that gradient itself where a mask was given, else empty. slope, offset float32 [C]: of the gradient at the
    norm's input as a line of the codes. mean float64 [C]: of the codes, where the line is 0. pull float32 [C]: what is
    taken off it at each chunk's maximum and added at its minimum, the elements ``at`` (int64, counted channels last;
    maxima, then minima), where it is ``values``; a constant chunk's one extreme takes both pulls. Gradients of weight
    and bias float32 [C]."""

    codes: Tensor
    scale: Tensor
    zero: Tensor
    masked: Tensor
    slope: Tensor
    offset: Tensor
    mean: Tensor
    pull: Tensor
    at: Tensor
    values: Tensor
    grad_weight: Tensor
    grad_bias: Tensor


def encode_ranged(
    x: Tensor, bits: int, integer_zero_point: bool, key: Draws = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """:func:`~qbench.kernels.encoding.encode_affine` with the range of ``x`` (float32, any shape), and that range [2].

    Raises TypeError and ValueError as it does.
    """
    require_type(x, "x", torch.float32)
    require_bits(bits, MOST_AFFINE_BITS)
    result: tuple[Tensor, Tensor, Tensor, Tensor] = ops.encode_ranged(dense(x), bits, integer_zero_point, words(key))
    return result


def round_scaled(
    x: Tensor,
    magnitude: Tensor,
    kind: str,
    divisor: float,
    low: float,
    high: float,
    rounding: str,
    key: Draws,
    dtype: torch.dtype,
) -> Tensor:
    """What the codes of :func:`~qbench.kernels.encoding.encode_scaled` stand for, code * scale in float32, without the
    codes; NaN everywhere where the scale is. Arguments and errors are the same."""
    require_type(x, "x", torch.float32)
    check_scaled(kind, rounding, key, dtype)
    check_magnitude(magnitude, kind)
    result: Tensor = ops.round_scaled(dense(x), dense(magnitude), kind, divisor, low, high, rounding, words(key), dtype)
    return result


def range_norm(
    y: Tensor, low: Tensor, high: Tensor, bits: int, key: Draws, chunks: int, weight: Tensor, bias: Tensor,
    constant: float, eps: float, relu: bool,
) -> Normalised:  # fmt: skip
    """``y`` (float32) as affine codes between low and high with a whole zero point, and their norm.

    low, high: 0-d float32. relu: whether the extremes are those behind a ReLU. Raises TypeError for another type of
    ``y``, low or high, and ValueError unless ``y`` has elements in two or four dimensions, ``chunks`` divides the
    number of rows, the codes fit a byte and weight and bias have a value per channel.
    """
    require_rows(y, "y", torch.float32)
    check_affine(low, high, bits)
    weight, bias = each_per_channel(y.shape[1], weight=weight, bias=bias)
    _require_elements(y, "y")
    require_chunks(y, chunks)
    return Normalised._make(
        ops.range_norm(dense(y), low, high, bits, words(key), chunks, weight, bias, constant, eps, relu)
    )


def range_norm_gradient_(
    g: Tensor | Pooled, mask: Tensor | None, normalised: Tensor, slope: Tensor, offset: Tensor, relu: bool, bits: int,
    key: Draws, step: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor, constant: float, low_at: Tensor,
    high_at: Tensor,
) -> NormGradient:  # fmt: skip
    """The backward pass for the gradient ``g`` (float32) at the output of norm and ReLU, encoded in between.

    g: where max pooling follows, its output's gradient may stand for that of its input. mask: bits [value > 0] of the
    ReLU behind a residual addition; None where the ReLU, if there is one, follows from the output of the norm.
    normalised: the codes that were normalised (uint8), step: their scale (0-d float32); the gradient's codes take their
    place. Raises TypeError for another type of ``g``, ``normalised`` or ``step`` and ValueError for another shape than
    the codes', codes of more than a byte or ``normalised`` empty or not dense.
    """
    require_bits(bits)
    require_rows(normalised, "normalised", torch.uint8)
    require_dense(normalised, "normalised")
    _require_elements(normalised, "normalised")
    channels = normalised.shape[1]
    slope, offset, weight = each_per_channel(channels, slope=slope, offset=offset, weight=weight)
    mean, inverse = each_per_channel(channels, torch.float64, mean=mean, inverse=inverse)
    require_number(step, "step")
    require_like(high_at, "high_at", low_at, "low_at")
    low_at, high_at = (_rows_of_chunks(at, name, channels) for at, name in ((low_at, "low_at"), (high_at, "high_at")))
    if mask is not None:
        mask = mask_of(mask, normalised.numel())
    window = pool = None
    if isinstance(g, Pooled):
        if mask is not None:
            raise ValueError("a gradient behind max pooling goes with no mask: it is that of a ReLU's output")
        pool = g.checked_geometry(normalised.shape)
        gradient, window = dense(g.gradient), dense(g.window)
    else:
        gradient = dense_like(g, "g", normalised, "normalised")
    result = ops.range_norm_gradient_(
        gradient, mask, window, pool, normalised, slope, offset, relu, bits, words(key), step, mean, inverse,
        weight, constant, low_at, high_at,
    )  # fmt: skip
    increment_version(normalised)
    return NormGradient(normalised, *result)


def encode_error(
    codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor, bits: int, key: Draws
) -> tuple[Tensor, Tensor, Tensor]:
    """slope * codes + offset, but ``values`` at the elements ``at``, as affine codes of their own range (uint8, whole
    zero point), with scale and zero.

    Raises TypeError unless the codes are uint8, and ValueError for codes of other than two or four dimensions, more
    than 8 bits or ``at`` that is no list. Tensors may be empty.
    """
    require_bits(bits)
    result: tuple[Tensor, Tensor, Tensor] = ops.encode_error(
        *_line_of_codes(codes, slope, offset, at, values), bits, words(key)
    )
    return result


def encode_error_pair(
    codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor, bits: int, key: Draws, top: float,
    rounding: str, wide_key: Draws, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The values of :func:`encode_error` as two operands: its codes with scale and zero, and codes symmetric about zero
    (``dtype``, up to ``top``) with their scale.

    Raises TypeError and ValueError as it does, TypeError unless ``dtype`` is signed, and ValueError for another
    rounding than :func:`~qbench.kernels.encoding.encode_scaled` has.
    """
    require_bits(bits)
    check_scaled("linear", rounding, wide_key, dtype)
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = ops.encode_error_pair(
        *_line_of_codes(codes, slope, offset, at, values), bits, words(key), top, rounding, words(wide_key), dtype
    )
    return result


def _line_of_codes(
    codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Checked and dense."""
    slope, offset = view_line(codes, slope, offset)
    return dense(codes), slope, offset, *elements_of(at, values)


def _require_elements(x: Tensor, name: str) -> None:
    """Raise ValueError for a tensor without elements: it has no range."""
    if not x.numel():
        raise ValueError(f"{name} must have elements, got shape {tuple(x.shape)}")


def _rows_of_chunks(at: Tensor, name: str, channels: int) -> Tensor:
    require_type(at, name, torch.int64)
    if at.dim() != 2 or at.shape[1] != channels:
        raise ValueError(f"{name} must have one row per chunk and channel, [chunks, {channels}], got {tuple(at.shape)}")
    return at.contiguous()
