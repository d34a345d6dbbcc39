"""Encoding loops of the CPU: range in, codes out, one pass over memory.

x: float32 on the CPU, any shape. Codes come back as integer-valued float32 of the same shape and memory layout.
key: of the random bits for stochastic rounding; None rounds to nearest, half to even.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from qbench.kernels.random import MASK, Key, counted, uncounted


@cache
def _loops() -> ModuleType:
    """The compiled loops; imported here because float methods never need numba."""
    from qbench.kernels import loops_numba

    return loops_numba


def encode_affine(
    x: Tensor, low: float, high: float, bits: int, *, integer_zero_point: bool, key: Key | None
) -> tuple[Tensor, float, float]:
    """Unsigned codes clip(round(x / scale + zero_point), 0, 2^bits - 1) and their scale and zero point.

    integer_zero_point: the range is widened to hold 0, scale = (high - low) / 2^bits and the zero point is rounded;
    otherwise scale = (high - low) / (2^bits - 1) and zero_point = -low / scale. A scale below the smallest normal
    float32 becomes 1.
    """
    source, result = _flat(x)
    arguments = (source, result.view(-1).numpy(), np.float32(low), np.float32(high), bits, integer_zero_point)
    if key is None:
        scale, zero_point = _loops().encode_affine_nearest(*arguments)
    else:
        scale, zero_point = _loops().encode_affine_stochastic(*arguments, *words(key))
    return uncounted(result, x), float(scale), float(zero_point)


def encode_scaled(x: Tensor, scale: float, top: float, key: Key | None) -> Tensor:
    """Signed codes clip(round(x / scale), -top, top)."""
    source, result = _flat(x)
    arguments = (source, result.view(-1).numpy(), np.float32(scale), np.float32(top))
    if key is None:
        _loops().encode_scaled_nearest(*arguments)
    else:
        _loops().encode_scaled_stochastic(*arguments, *words(key))
    return uncounted(result, x)


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """Codes of a grid of levels: how many of the ascending ``thresholds`` (float32) lie below each value."""
    source, result = _flat(x)
    _loops().encode_levels(source, result.view(-1).numpy(), thresholds.numpy())
    return uncounted(result, x)


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[codes] for codes of any dtype and shape, here on any device; table float32 [levels]."""
    if codes.device.type != "cpu":
        return table[codes.long()]
    flat = counted(codes.detach()).contiguous()
    result = torch.empty(flat.shape, dtype=torch.float32)
    _loops().look_up(flat.view(-1).numpy(), table.numpy(), result.view(-1).numpy())
    return uncounted(result, codes)


def words(key: Key) -> tuple[np.uint32, np.uint32, np.uint32]:
    """The key as the loops take it."""
    return np.uint32(key.seed & MASK), np.uint32(key.tensor & MASK), np.uint32(key.step & MASK)


def _flat(x: Tensor) -> tuple[np.ndarray, Tensor]:
    """``x`` as a flat array in counting order, and a tensor for the result in the same order."""
    source = counted(x.detach()).contiguous()
    return source.view(-1).numpy(), torch.empty_like(source)
