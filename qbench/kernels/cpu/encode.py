"""Encoding in C++: as :mod:`qbench.kernels.reference.encode`, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import KINDS, TYPES, call, drawing, floats, number, pointer, rule_and_key


def extremes(x: Tensor) -> Tensor:
    """[min, max]."""
    result = floats(2)
    call("extremes", x.data_ptr(), x.numel(), result.data_ptr())
    return result


def encode_affine(
    x: Tensor, low: Tensor, high: Tensor, bits: int, integer_zero_point: bool, key: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scale, zero. low, high: 0-d."""
    codes = torch.empty_like(x, dtype=torch.uint8 if bits <= 8 else torch.int32)
    scale, zero = number(), number()
    call(
        "encode_affine", x.data_ptr(), x.numel(), low.data_ptr(), high.data_ptr(), bits, integer_zero_point,
        *drawing(key), codes.data_ptr(), scale.data_ptr(), zero.data_ptr(),
    )  # fmt: skip
    return codes, scale, zero


def encode_scaled(
    x: Tensor,
    magnitude: Tensor,
    kind: str,
    divisor: float,
    low: float,
    high: float,
    rounding: str,
    key: Sequence[int] | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Codes, scale."""
    codes, scale = torch.empty_like(x, dtype=dtype), number()
    call(
        "encode_scaled", x.data_ptr(), x.numel(), magnitude.data_ptr(), magnitude.numel(), KINDS.index(kind), divisor,
        low, high, *rule_and_key(rounding, key), TYPES.index(dtype), codes.data_ptr(), scale.data_ptr(),
    )  # fmt: skip
    return codes, scale


def encode_channels(x: Tensor, top: float, key: Sequence[int] | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Codes, scale [K, 1, ..., 1]."""
    codes, scale = torch.empty_like(x, dtype=dtype), floats(len(x), *[1] * (x.dim() - 1))
    rule = rule_and_key("nearest" if key is None else "stochastic", key)
    call(
        "encode_channels", x.data_ptr(), x.numel(), len(x), top, *rule, TYPES.index(dtype), codes.data_ptr(),
        scale.data_ptr(),
    )  # fmt: skip
    return codes, scale


def encode_flag(x: Tensor, magnitude: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes, scale."""
    codes, scale = torch.empty_like(x, dtype=torch.int16), number()
    call(
        "encode_flag", x.data_ptr(), x.numel(), magnitude.data_ptr(), magnitude.numel(), bits, codes.data_ptr(),
        scale.data_ptr(),
    )  # fmt: skip
    return codes, scale


def encode_binary(x: Tensor, scale: Tensor, key: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Codes, scale."""
    codes, used = torch.empty_like(x, dtype=torch.int8), number()
    call(
        "encode_binary", x.data_ptr(), x.numel(), scale.data_ptr(), *drawing(key), codes.data_ptr(), used.data_ptr()
    )  # fmt: skip
    return codes, used


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """Codes."""
    codes = torch.empty_like(x, dtype=torch.uint8)
    call(
        "encode_levels", x.data_ptr(), x.numel(), 1, None, None, thresholds.data_ptr(),
        thresholds.numel(), codes.data_ptr(),
    )  # fmt: skip
    return codes


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[code]."""
    values = torch.empty_like(codes, dtype=torch.float32)
    call("look_up", codes.data_ptr(), codes.numel(), table.data_ptr(), table.numel(), values.data_ptr())
    return values


def decode(codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Values. scale, zero: 0-d."""
    values = torch.empty_like(codes, dtype=torch.float32)
    call(
        "decode", codes.data_ptr(), TYPES.index(codes.dtype), codes.numel(), scale.data_ptr(), pointer(zero),
        values.data_ptr(),
    )  # fmt: skip
    return values


def decode_channels(codes: Tensor, scale: Tensor) -> Tensor:
    """Values. scale: [K, 1, ..., 1]."""
    values = torch.empty_like(codes, dtype=torch.float32)
    call(
        "decode_channels", codes.data_ptr(), TYPES.index(codes.dtype), codes.numel(), len(codes), scale.data_ptr(),
        values.data_ptr(),
    )  # fmt: skip
    return values
