"""Passes over channels-last tensors in C++: as :mod:`qbench.kernels.reference.passes`, bit for bit but for the order of
sums in float64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import KINDS, TYPES, call, drawing, floats, number, pointer, rule_and_key


def chunk_statistics(codes: Tensor, chunks: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Sums [C], lows, highs, and the rows that first attain them [chunks, C]."""
    channels, rows = codes.shape[1], _rows(codes)
    sums = torch.empty(channels, dtype=torch.int64)
    make = torch.empty if rows else torch.zeros
    lows, highs = (make((chunks, channels), dtype=torch.uint8) for _ in range(2))
    low_at, high_at = (make((chunks, channels), dtype=torch.int64) for _ in range(2))
    call(
        "chunk_statistics", codes.data_ptr(), rows, channels, chunks, sums.data_ptr(), lows.data_ptr(),
        highs.data_ptr(), low_at.data_ptr(), high_at.data_ptr(),
    )  # fmt: skip
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
    """Codes, scale, zero."""
    encoded = torch.empty_like(codes)
    scale, zero = number(), number()
    call(
        "encode_affine_view", *_view(codes, slope, offset, relu), low.data_ptr(), high.data_ptr(), bits,
        integer_zero_point, *drawing(key), *_replaced(at, values), encoded.data_ptr(), scale.data_ptr(),
        zero.data_ptr(),
    )  # fmt: skip
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
    """Codes, scale."""
    encoded, scale = torch.empty_like(codes, dtype=dtype), number()
    call(
        "encode_scaled_view", *_view(codes, slope, offset, relu), magnitude.data_ptr(), magnitude.numel(),
        KINDS.index(kind), divisor,
        low, high, *rule_and_key(rounding, key), TYPES.index(dtype), *_replaced(at, values), encoded.data_ptr(),
        scale.data_ptr(),
    )  # fmt: skip
    return encoded, scale


def view_extremes(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, at: Tensor | None, values: Tensor | None
) -> Tensor:
    """[min, max]."""
    result = floats(2)
    call("view_extremes", *_view(codes, slope, offset, relu), *_replaced(at, values), result.data_ptr())
    return result


def affine_view(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, extremes, mask."""
    return level_view(codes, None, slope, offset, relu, trunk)


def level_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, extremes, mask. table: None to read codes as numbers."""
    value, extremes = torch.empty_like(codes, dtype=torch.float32), floats(2)
    mask = torch.empty((codes.numel() + 7) // 8 if relu else 0, dtype=torch.uint8)
    call(
        "view", codes.data_ptr(), codes.numel(), codes.shape[1], pointer(table), 0 if table is None else table.numel(),
        slope.data_ptr(), offset.data_ptr(), relu, pointer(trunk), value.data_ptr(), mask.data_ptr(),
        extremes.data_ptr(),
    )  # fmt: skip
    return value, extremes, mask


def apply_mask(g: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Masked gradient, extremes."""
    result, extremes = torch.empty_like(g), floats(2)
    call("apply_mask", g.data_ptr(), g.numel(), mask.data_ptr(), result.data_ptr(), extremes.data_ptr())
    return result, extremes


def rectify(x: Tensor, trunk: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Value, extremes, mask."""
    value, extremes = torch.empty_like(x), floats(2)
    mask = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
    arguments = (x.data_ptr(), x.numel(), pointer(trunk), value.data_ptr(), mask.data_ptr(), extremes.data_ptr())
    call("rectify", *arguments)
    return value, extremes, mask


def join_gradients(codes: Tensor, scale: Tensor, g: Tensor | None, mask: Tensor | None) -> Tensor:
    """The sum where the mask is set."""
    result = torch.empty_like(codes, dtype=torch.float32)
    arguments = (codes.data_ptr(), TYPES.index(codes.dtype), codes.numel(), scale.data_ptr(), pointer(g), pointer(mask))
    call("join_gradients", *arguments, result.data_ptr())
    return result


def view_gradient_extremes(g: Tensor, codes: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """[min, max]."""
    result = floats(2)
    call("view_gradient_extremes", g.data_ptr(), *_view(codes, slope, offset, relu), result.data_ptr())
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
    key: Sequence[int] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, zero, sums [2, C]. bits: at most 8."""
    scale, zero = number(), number()
    sums = torch.empty((2, codes.shape[1]), dtype=torch.int64)
    call(
        "encode_view_gradient", g.data_ptr(), *_view(codes, slope, offset, relu), low.data_ptr(), high.data_ptr(), bits,
        integer_zero_point, *drawing(key), scale.data_ptr(), zero.data_ptr(), sums.data_ptr(),
    )  # fmt: skip
    return scale, zero, sums


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, variance, lows, highs [C]."""
    channels = x.shape[1]
    mean, variance = (torch.empty(channels, dtype=torch.float64) for _ in range(2))
    lows, highs = (floats(channels) for _ in range(2))
    call(
        "moments", x.data_ptr(), _rows(x), channels, mean.data_ptr(), variance.data_ptr(), lows.data_ptr(),
        highs.data_ptr(),
    )  # fmt: skip
    return mean, variance, lows, highs


def move_average_(average: Tensor, value: Tensor, weight: float) -> None:
    """In place."""
    call("move_average", average.data_ptr(), average.numel(), value.data_ptr(), value.dtype == torch.float64, weight)


def level_line(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, rows: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(mean, inverse, slope, offset, unbiased variance)."""
    channels = mean.numel()
    used, inverse, slope, offset, unbiased = (floats(channels) for _ in range(5))
    call(
        "level_line", channels, mean.data_ptr(), variance.data_ptr(), weight.data_ptr(), bias.data_ptr(),
        rows / max(rows - 1, 1), eps, used.data_ptr(), inverse.data_ptr(), slope.data_ptr(), offset.data_ptr(),
        unbiased.data_ptr(),
    )  # fmt: skip
    return used, inverse, slope, offset, unbiased


def level_gradient_line(
    sums: Tensor, rows: int, inverse: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(gradient of the weight, of the bias, and a, b, c of :func:`level_gradient`)."""
    channels = sums.shape[1]
    grad_weight, grad_bias, a, b, c = (floats(channels) for _ in range(5))
    call(
        "level_gradient_line", channels, sums.data_ptr(), rows, inverse.data_ptr(), weight.data_ptr(),
        grad_weight.data_ptr(), grad_bias.data_ptr(), a.data_ptr(), b.data_ptr(), c.data_ptr(),
    )  # fmt: skip
    return grad_weight, grad_bias, a, b, c


def encode_normalised_levels(x: Tensor, mean: Tensor, inverse: Tensor, thresholds: Tensor) -> Tensor:
    """Codes."""
    codes = torch.empty_like(x, dtype=torch.uint8)
    call(
        "encode_levels", x.data_ptr(), x.numel(), x.shape[1], mean.data_ptr(), inverse.data_ptr(),
        thresholds.data_ptr(), thresholds.numel(), codes.data_ptr(),
    )  # fmt: skip
    return codes


def level_gradient_sums(g: Tensor, codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> Tensor:
    """Sums float64 [2, C]."""
    sums = torch.empty((2, codes.shape[1]), dtype=torch.float64)
    call(
        "level_gradient_sums", g.data_ptr(), codes.data_ptr(), _rows(codes), codes.shape[1], table.data_ptr(),
        table.numel(), slope.data_ptr(), offset.data_ptr(), relu, sums.data_ptr(),
    )  # fmt: skip
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
    """Gradient of the normalisation's input."""
    result = torch.empty_like(g)
    call(
        "level_gradient", g.data_ptr(), codes.data_ptr(), codes.numel(), codes.shape[1], table.data_ptr(),
        table.numel(), slope.data_ptr(), offset.data_ptr(), relu, a.data_ptr(), b.data_ptr(), c.data_ptr(),
        result.data_ptr(),
    )  # fmt: skip
    return result


def _rows(x: Tensor) -> int:
    """Elements of one channel."""
    return x.shape[0] * x.shape[2:].numel()


def _view(codes: Tensor, slope: Tensor, offset: Tensor, relu: bool) -> tuple[int, int, int, int, int, bool]:
    return codes.data_ptr(), codes.numel(), codes.shape[1], slope.data_ptr(), offset.data_ptr(), relu


def _replaced(at: Tensor | None, values: Tensor | None) -> tuple[int | None, int | None, int]:
    return pointer(at), pointer(values), 0 if at is None else at.numel()
