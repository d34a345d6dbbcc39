"""Blocks of kernels in terms of their parts: what :mod:`qbench.kernels.blocks` says, for backends without a block of
their own. ``parts`` has the functions of the operators that a block is made of, under the operators' names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]

Words = Sequence[int] | None
"""The words of a key, or None to round to nearest."""


def encode_ranged(
    parts: Any, x: Tensor, bits: int, integer_zero_point: bool, key: Words
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(codes, scale, zero, extremes)."""
    extremes = parts.extremes(x)
    low, high = _ends(extremes)
    return *parts.encode_affine(x, low, high, bits, integer_zero_point, key), extremes


def round_scaled(parts: Any, x: Tensor, *arguments: Any) -> Tensor:
    """Values."""
    codes, scale = parts.encode_scaled(x, *arguments)
    values: Tensor = parts.decode(codes, scale, None)
    return values


def range_norm(
    parts: Any, y: Tensor, low: Tensor, high: Tensor, bits: int, key: Words, chunks: int, weight: Tensor, bias: Tensor,
    constant: float, eps: float, relu: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """(codes, scale, zero, slope, offset, mean, inverse, batch mean, spread, extremes, low at, high at)."""
    codes, scale, zero = parts.encode_affine(y, low, high, bits, True, key)
    sums, lows, highs, low_at, high_at = parts.chunk_statistics(codes, chunks)
    rows = y.shape[0] * y.shape[2:].numel()
    line = parts.range_line(sums, lows, highs, rows, scale, zero, weight, bias, constant, eps, relu)
    return codes, scale, zero, *line, low_at, high_at


def range_norm_gradient_(
    parts: Any, g: Tensor, mask: Tensor | None, window: Tensor | None, pool: Sequence[int] | None, codes: Tensor,
    slope: Tensor, offset: Tensor, relu: bool, bits: int, key: Words, step: Tensor, mean: Tensor, inverse: Tensor,
    weight: Tensor, constant: float, low_at: Tensor, high_at: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """(scale, zero, masked gradient, slope, offset, mean of the codes, pull, at, values, gradients of
    weight and bias)."""
    if window is not None and pool is not None:
        g = parts.max_pool2d_backward(g, window, codes.shape, pool[:2], pool[2:4], pool[4:])
    masked = torch.empty(0, dtype=torch.float32, device=g.device)
    if mask is None:
        extremes = parts.view_gradient_extremes(g, codes, slope, offset, relu)
    else:
        masked, extremes = parts.apply_mask(g, mask)
        g, relu = masked, False
    low, high = _ends(extremes)
    scale, zero, sums = parts.encode_view_gradient_(g, codes, slope, offset, relu, low, high, bits, True, key)
    rows = g.shape[0] * g.shape[2:].numel()
    line = parts.range_gradient_line(
        sums, rows, scale, zero, step, mean, inverse, weight, constant, codes, low_at, high_at
    )
    return scale, zero, masked, *line


def encode_error(
    parts: Any, codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor, bits: int, key: Words
) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, scale, zero)."""
    line = (codes, slope, offset, False)
    low, high = _ends(parts.view_extremes(*line, at, values))
    encoded: tuple[Tensor, Tensor, Tensor] = parts.encode_affine_view(*line, low, high, bits, True, key, at, values)
    return encoded


def encode_error_pair(
    parts: Any, codes: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor, bits: int, key: Words,
    top: float, rounding: str, wide_key: Words, dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(codes, scale, zero, wide codes, wide scale)."""
    line = (codes, slope, offset, False)
    extremes = parts.view_extremes(*line, at, values)
    narrow = parts.encode_affine_view(*line, *_ends(extremes), bits, True, key, at, values)
    wide = parts.encode_scaled_view(*line, extremes, "linear", top, -top, top, rounding, wide_key, dtype, at, values)
    return *narrow, *wide


def _ends(extremes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = extremes.unbind()
    return low, high


BLOCKS = (encode_ranged, round_scaled, range_norm, range_norm_gradient_, encode_error, encode_error_pair)


def bound(*modules: ModuleType) -> tuple[Function, ...]:
    """BLOCKS, made of the functions of these modules; a later module's take the place of an earlier one's."""
    parts = SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})
    return tuple(_bound(block, parts) for block in BLOCKS)


def _bound(block: Function, parts: SimpleNamespace) -> Function:
    def run(*arguments: Any) -> Any:
        return block(parts, *arguments)

    return run
