"""Bounded activations and their errors in C++: as :mod:`qbench.kernels.reference.bounded`, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.cpu.calls import TYPES, call, number, pointer


def bounded_values(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, passed, unclipped."""
    value, passed, unclipped = torch.empty_like(y), _bits(y), _bits(y)
    call(
        "bounded_values", *_bounded(y, inverse, trunk, trunk_scale, relu, limit), value.data_ptr(), passed.data_ptr(),
        unclipped.data_ptr(),
    )  # fmt: skip
    return value, passed, unclipped


def encode_bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Codes, scale, passed, unclipped."""
    codes, reported, passed, unclipped = torch.empty_like(y, dtype=dtype), number(), _bits(y), _bits(y)
    call(
        "encode_bounded", *_bounded(y, inverse, trunk, trunk_scale, relu, limit), scale, low, high, TYPES.index(dtype),
        codes.data_ptr(), reported.data_ptr(), passed.data_ptr(), unclipped.data_ptr(),
    )  # fmt: skip
    return codes, reported, passed, unclipped


def encode_bounded_error(
    g: Tensor, joined: Tensor | None, joined_scale: Tensor | None, passed: Tensor, unclipped: Tensor, divisor: float,
    top: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Codes, scale."""
    codes, scale = torch.empty_like(g, dtype=dtype), number()
    call(
        "encode_bounded_error", g.data_ptr(), g.numel(), *_coded(joined, joined_scale), passed.data_ptr(),
        unclipped.data_ptr(), divisor, top, TYPES.index(dtype), codes.data_ptr(), scale.data_ptr(),
    )  # fmt: skip
    return codes, scale


def _bits(like: Tensor) -> Tensor:
    return torch.empty((like.numel() + 7) // 8, dtype=torch.uint8)


def _bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> tuple[int, int, float, int | None, int, int | None, bool, float]:
    return y.data_ptr(), y.numel(), inverse, *_coded(trunk, trunk_scale), relu, limit


def _coded(codes: Tensor | None, scale: Tensor | None) -> tuple[int | None, int, int | None]:
    """Codes or floats, the number of the codes' type (negative for floats), and their scale."""
    return pointer(codes), -1 if codes is None or scale is None else TYPES.index(codes.dtype), pointer(scale)
