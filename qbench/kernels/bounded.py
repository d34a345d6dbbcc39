"""Activations bounded to the range of their grid behind a layer scale, and the errors that come back (Wu et al. 2018).

Tensors have any shape; memory is dense, channels-last with four dimensions (anything else is copied into it), and an
element's index is its place in that memory. Per element, every operation rounded to float32 and NaN passed on,

    v = y * inverse (+ trunk, or + trunk * trunk_scale)
    value = min(max(v, 0), limit) if ``relu``, else min(max(v, -limit), limit)

trunk: float32, or int8 or int16 codes with their scale (0-d float32). limit: positive, perhaps infinite. Two strings of
bits, bit i % 8 of byte i // 8 for element i (uint8), say what became of v: ``unclipped``, that it was not beyond the
limit (as NaN is not), and ``passed``, that the ReLU let it through besides. Without ``relu`` both are the same. Every
function raises TypeError or ValueError with one sentence for arguments that do not fit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from qbench.kernels.checks import (
    GRADIENT_CODES,
    dense,
    dense_like,
    mask_of,
    require_like,
    require_number,
    require_signed,
    require_type,
)
from qbench.kernels.library import ops


class Bounded(NamedTuple):
    """Values, float32, and what became of them."""

    value: Tensor
    passed: Tensor
    unclipped: Tensor


class BoundedCodes(NamedTuple):
    """Values as codes with their scale (0-d float32), and what became of them."""

    codes: Tensor
    scale: Tensor
    passed: Tensor
    unclipped: Tensor


def bounded_values(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> Bounded:
    """The values, and what became of them."""
    return Bounded._make(ops.bounded_values(*_bounded(y, inverse, trunk, trunk_scale, relu, limit)))


def encode_bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float,
    scale: float, low: float, high: float, dtype: torch.dtype,
) -> BoundedCodes:  # fmt: skip
    """The values as signed codes clip(round(value / scale), low, high) in ``dtype`` (int8, int16, int32), as
    :func:`~qbench.kernels.encoding.encode_scaled` of a fixed scale, rounding to nearest; and what became of them."""
    arguments = _bounded(y, inverse, trunk, trunk_scale, relu, limit)
    require_signed(dtype)
    return BoundedCodes._make(ops.encode_bounded(*arguments, scale, low, high, dtype))


def encode_bounded_error(
    g: Tensor, joined: Tensor | None, joined_scale: Tensor | None, passed: Tensor, unclipped: Tensor, divisor: float,
    top: float, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The gradient at the values as codes in ``dtype`` (int8, int16, int32), and their scale.

    With e = g (+ joined * joined_scale) where ``unclipped``, 0 elsewhere: codes clip(round(e / scale), -top, top) where
    ``passed``, 0 elsewhere, with the scale P / divisor, P = 2^round(log2 max|e|), as
    :func:`~qbench.kernels.encoding.encode_scaled` of kind ``power`` has it. g: float32; joined: int8 or int16 codes of
    its shape.
    """
    require_type(g, "g", torch.float32)
    joined = _coded(joined, joined_scale, "joined", g, "g")
    passed, unclipped = (
        mask_of(bits, g.numel(), name) for bits, name in ((passed, "passed"), (unclipped, "unclipped"))
    )
    require_signed(dtype)
    result: tuple[Tensor, Tensor] = ops.encode_bounded_error(
        dense(g), joined, joined_scale, passed, unclipped, divisor, top, dtype
    )
    return result


def _bounded(
    y: Tensor, inverse: float, trunk: Tensor | None, trunk_scale: Tensor | None, relu: bool, limit: float
) -> tuple[Tensor, float, Tensor | None, Tensor | None, bool, float]:
    """What every pass over y begins with, checked and dense."""
    require_type(y, "y", torch.float32)
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}")
    if trunk is not None and trunk_scale is None:
        require_type(trunk, "trunk without a scale", torch.float32)
        trunk = dense_like(trunk, "trunk", y, "y")
    else:
        trunk = _coded(trunk, trunk_scale, "trunk", y, "y")
    return dense(y), inverse, trunk, trunk_scale, relu, limit


def _coded(codes: Tensor | None, scale: Tensor | None, name: str, like: Tensor, like_name: str) -> Tensor | None:
    """Codes that go with a scale, dense; or neither."""
    if codes is None or scale is None:
        if codes is not None or scale is not None:
            raise ValueError(f"{name} and its scale go together")
        return None
    require_type(codes, f"{name} with a scale", *GRADIENT_CODES)
    require_number(scale, f"{name}_scale")
    require_like(codes, name, like, like_name)
    return dense(codes)
