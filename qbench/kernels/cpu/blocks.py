"""Blocks in C++: as :mod:`qbench.kernels.composed`, in one call each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import KINDS, TYPES, call, drawing, floats, number, numbers, pointer, rule_and_key


def encode_ranged(
    x: Tensor, bits: int, integer_zero_point: bool, key: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(codes, scale, zero, extremes)."""
    codes = torch.empty_like(x, dtype=torch.uint8 if bits <= 8 else torch.int32)
    scale, zero, extremes = number(), number(), floats(2)
    call(
        "encode_ranged", x.data_ptr(), x.numel(), bits, integer_zero_point, *drawing(key), codes.data_ptr(),
        scale.data_ptr(), zero.data_ptr(), extremes.data_ptr(),
    )  # fmt: skip
    return codes, scale, zero, extremes


def round_scaled(
    x: Tensor, magnitude: Tensor, kind: str, divisor: float, low: float, high: float, rounding: str,
    key: Sequence[int] | None, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Values."""
    values = torch.empty_like(x)
    call(
        "round_scaled", x.data_ptr(), x.numel(), magnitude.data_ptr(), magnitude.numel(), KINDS.index(kind), divisor,
        low, high, *rule_and_key(rounding, key), TYPES.index(dtype), values.data_ptr(),
    )  # fmt: skip
    return values


def range_norm(
    y: Tensor, low: Tensor, high: Tensor, bits: int, key: Sequence[int] | None, chunks: int, weight: Tensor,
    bias: Tensor, constant: float, eps: float, relu: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """(codes, scale, zero, slope, offset, mean, inverse, batch mean, spread, extremes, low at, high at)."""
    channels = y.shape[1]
    rows = y.numel() // channels
    codes = torch.empty_like(y, dtype=torch.uint8)
    scale, zero = number(), number()
    slope, offset, batch_mean, spread = (floats(channels) for _ in range(4))
    mean, inverse = (torch.empty(channels, dtype=torch.float64) for _ in range(2))
    extremes = floats(2)
    low_at, high_at = (torch.empty((chunks, channels), dtype=torch.int64) for _ in range(2))
    call(
        "range_norm", y.data_ptr(), rows, channels, low.data_ptr(), high.data_ptr(), bits, *drawing(key), chunks,
        weight.data_ptr(), bias.data_ptr(), constant, eps, relu, codes.data_ptr(), scale.data_ptr(), zero.data_ptr(),
        slope.data_ptr(), offset.data_ptr(), mean.data_ptr(), inverse.data_ptr(), batch_mean.data_ptr(),
        spread.data_ptr(), extremes.data_ptr(), low_at.data_ptr(), high_at.data_ptr(),
    )  # fmt: skip
    return codes, scale, zero, slope, offset, mean, inverse, batch_mean, spread, extremes, low_at, high_at


def range_norm_gradient_(
    g: Tensor, mask: Tensor | None, window: Tensor | None, pool: Sequence[int] | None, codes: Tensor, slope: Tensor,
    offset: Tensor, relu: bool, bits: int, key: Sequence[int] | None, step: Tensor, mean: Tensor, inverse: Tensor,
    weight: Tensor, constant: float, low_at: Tensor, high_at: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """(scale, zero, masked gradient, slope, offset, mean of the codes, pull, at, values, gradients of
    weight and bias)."""
    chunks, channels = low_at.shape
    scale, zero = number(), number()
    masked = floats(0) if mask is None else torch.empty_like(g)
    to_slope, to_offset, pull, grad_weight, grad_bias = (floats(channels) for _ in range(5))
    to_mean = torch.empty(channels, dtype=torch.float64)
    at, values = torch.empty(2 * low_at.numel(), dtype=torch.int64), floats(2 * low_at.numel())
    geometry = None if pool is None else numbers(*codes.shape[2:], *g.shape[2:], *pool)
    call(
        "range_norm_gradient", g.data_ptr(), codes.numel() // channels, channels, pointer(mask), pointer(window),
        geometry, codes.data_ptr(), slope.data_ptr(), offset.data_ptr(), relu, bits, *drawing(key), step.data_ptr(),
        mean.data_ptr(), inverse.data_ptr(), weight.data_ptr(), constant, chunks, low_at.data_ptr(),
        high_at.data_ptr(), scale.data_ptr(), zero.data_ptr(), masked.data_ptr(), to_slope.data_ptr(),
        to_offset.data_ptr(), to_mean.data_ptr(), pull.data_ptr(), at.data_ptr(), values.data_ptr(),
        grad_weight.data_ptr(), grad_bias.data_ptr(),
    )  # fmt: skip
    return scale, zero, masked, to_slope, to_offset, to_mean, pull, at, values, grad_weight, grad_bias


def encode_error(
    codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor, bits: int, key: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, scale, zero)."""
    narrow, scale, zero = torch.empty_like(codes), number(), number()
    call(
        "encode_error", codes.data_ptr(), codes.numel(), codes.shape[1], slope.data_ptr(), offset.data_ptr(),
        at.data_ptr(), values.data_ptr(), at.numel(), bits, *drawing(key), narrow.data_ptr(), scale.data_ptr(),
        zero.data_ptr(),
    )  # fmt: skip
    return narrow, scale, zero


def encode_error_pair(
    codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor, bits: int, key: Sequence[int] | None,
    top: float, rounding: str, wide_key: Sequence[int] | None, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(codes, scale, zero, wide codes, wide scale)."""
    narrow, scale, zero = torch.empty_like(codes), number(), number()
    wide, wide_scale = torch.empty_like(codes, dtype=dtype), number()
    call(
        "encode_error_pair", codes.data_ptr(), codes.numel(), codes.shape[1], slope.data_ptr(), offset.data_ptr(),
        at.data_ptr(), values.data_ptr(), at.numel(), bits, *drawing(key), top, *rule_and_key(rounding, wide_key),
        TYPES.index(dtype), narrow.data_ptr(), scale.data_ptr(), zero.data_ptr(), wide.data_ptr(),
        wide_scale.data_ptr(),
    )  # fmt: skip
    return narrow, scale, zero, wide, wide_scale
