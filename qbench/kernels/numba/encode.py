"""Encoding by numba's compiled loops: as :mod:`qbench.kernels.reference.encode`, bit for bit.

Tensors are dense, so element i of the flat memory is element i of the random bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qbench.kernels.numba import loops
from qbench.kernels.reference.encode import affine_parameters, limits_of, scale_of

HASH = 1
"""Place of the generator in a key's list."""


def encode_affine(
    x: Tensor, low: Tensor, high: Tensor, bits: int, integer_zero_point: bool, key: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, scale, zero. low, high: 0-d."""
    scale, zero = affine_parameters(low, high, bits, integer_zero_point)
    zero = torch.where(scale.isnan(), 0.0, zero)
    codes = torch.empty_like(x, dtype=torch.uint8 if bits <= 8 else torch.int32)
    _encode(x, codes, scale, zero, (0.0, 2.0**bits - 1), "nearest" if key is None else "stochastic", key)
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
    scale, zero = scale_of(magnitude, kind, divisor), torch.zeros((), dtype=torch.float32)
    codes = torch.empty_like(x, dtype=dtype)
    nan = _encode(x, codes, scale, zero, limits_of(dtype, low, high), rounding, key)
    return codes, torch.full_like(scale, torch.nan) if nan else scale


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """Codes."""
    codes = torch.empty_like(x, dtype=torch.uint8)
    loops.encode_levels(_flat(x), _flat(codes), _flat(thresholds))
    return codes


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[code]."""
    values = torch.empty_like(codes, dtype=torch.float32)
    loops.look_up(_flat(codes), _flat(table), _flat(values))
    return values


def _encode(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    zero: Tensor,
    limits: tuple[float, float],
    rounding: str,
    key: Sequence[int] | None,
) -> bool:
    """Fill ``codes``; whether x holds a NaN."""
    loop: Any = loops.encode_nearest
    last: list[Any] = [rounding == "half_up"]
    if key is not None:
        loop = loops.encode_hash if key[3] == HASH else loops.encode_philox
        last = [np.uint32(word) for word in key[:3]]
    numbers = (np.float32(float(value)) for value in (scale, zero, *limits))
    return bool(loop(_flat(x), _flat(codes), *numbers, *last))


def _flat(x: Tensor) -> np.ndarray[Any, Any]:
    """The elements in the order of the memory, without a copy."""
    return x.detach().as_strided((x.numel(),), (1,)).numpy()
