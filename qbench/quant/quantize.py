"""Encoding: from a float tensor to integer codes, one function per number format, all behind :func:`quantize`.

Each measures the range its format needs and calls the kernel that rounds, clips and stores.

Non-finite input: one NaN poisons the tensor, and so does an infinity where the scale comes from the data: the scale is
NaN, every value dequantises to NaN and training reports divergence. A fixed grid clips infinities. A zero tensor gives
zeros, a constant tensor its value within one step, an empty tensor an empty tensor.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qbench.kernels import encoding
from qbench.kernels.blocks import encode_ranged, round_scaled
from qbench.kernels.checks import require_type
from qbench.kernels.constants import constant
from qbench.kernels.random import Key
from qbench.quant.formats import (
    Affine,
    Binary,
    Constant,
    Direct,
    FixedPoint,
    Flag,
    Float,
    Levels,
    Quantizer,
    Shift,
    Symmetric,
)
from qbench.quant.levels import decision_points, level_table
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import measure_range, pair_of


def quantize(x: Tensor, spec: Quantizer, key: Key, limits: Tensor | None = None) -> QTensor:
    """Encode ``x`` (float32, any shape) in the format ``spec``.

    key: of the random bits, used by stochastic formats only. limits: the range to use instead of the tensor's own
    (float32 [2], smallest and largest), where the format has one scale that depends on it. Returns codes of ``x``'s
    shape in the format's ``code_dtype``.
    Raises TypeError for another type, ValueError for a single number in a format with a scale per channel.
    """
    _check(x, spec)
    scaling = _scaling(spec, x, limits)
    return _encode(spec, x, key, limits) if scaling is None else _scaled(spec, x, scaling, key)


def rounded(x: Tensor, spec: Quantizer, key: Key, limits: Tensor | None = None) -> Tensor:
    """The values of :func:`quantize`, float32; formats of signed codes on one scale make no codes on the way."""
    _check(x, spec)
    scaling = _scaling(spec, x, limits)
    if scaling is None:
        return _encode(spec, x, key, limits).dequantize()
    return round_scaled(x, *scaling.arguments(spec, key))


def _check(x: Tensor, spec: Quantizer) -> None:
    require_type(x, "x", torch.float32)
    if not x.dim() and getattr(spec, "granularity", "tensor") == "channel":
        raise ValueError("a format with a scale per channel takes tensors with at least one dimension")


@singledispatch
def _encode(spec: Quantizer, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    """A new format registers its function here, or its scaling with :func:`_scaling`."""
    raise TypeError(f"no quantizer for {type(spec).__name__}")


def has_rule(spec: Quantizer) -> bool:
    """Whether :func:`quantize` knows how to round to the format."""
    return any(rules.dispatch(type(spec)) is not rules.dispatch(object) for rules in (_encode, _scaling))


def random_bits(spec: Quantizer, key: Key) -> list[int] | None:
    """The key as the kernels take it, None for a format that rounds to nearest."""
    return key.words() if spec.is_stochastic else None


def code_type(spec: Quantizer) -> torch.dtype:
    """The format's ``code_dtype`` as PyTorch's."""
    return getattr(torch, spec.code_dtype)  # type: ignore[no-any-return]


@_encode.register
def _affine(spec: Affine, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    if limits is None and spec.takes_extremes:
        codes, scale, zero_point, _ = encode_ranged(x, spec.bits, spec.scheme == "zero_point", random_bits(spec, key))
        return QTensor(codes, scale, zero_point, spec)
    low, high = measure_range(spec, x) if limits is None else pair_of(limits)
    codes, scale, zero_point = encoding.encode_affine(
        x, low, high, spec.bits, spec.scheme == "zero_point", random_bits(spec, key)
    )
    return QTensor(codes, scale, zero_point, spec)


@_encode.register
def _symmetric_channels(spec: Symmetric, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    top = int(spec.largest_integer)
    codes, scale = encoding.encode_channels(x, top, random_bits(spec, key), code_type(spec))
    return QTensor(codes, scale, None, spec)


@_encode.register
def _flag(spec: Flag, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    # Codes count the fine grid, R / 2^(2k - 2); a flagged value is a multiple of 2^(k-1).
    codes, scale = encoding.encode_flag(x, _extent(x, limits), spec.bits)
    return QTensor(codes, scale, None, spec)


@_encode.register
def _constant(spec: Constant, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    top = spec.largest_integer
    q = _scaled(spec, x, Scaling(_extent(x, limits), "power", float(spec.levels), -top, top), key)
    assert q.scale is not None
    # The tensor's own scale is discarded, except where it says that the tensor is not finite.
    return QTensor(q.codes, q.scale * 0 + 2.0 ** (1 - spec.grid_bits), None, spec)


@_encode.register
def _binary(spec: Binary, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    assert spec.scale != "glorot", "a glorot scale is resolved per layer before anything is quantised"
    codes, scale = encoding.encode_binary(x, constant(spec.scale, x.device), random_bits(spec, key))
    return QTensor(codes, scale, None, spec)


@_encode.register
def _float(spec: Float, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    return QTensor(x.to(code_type(spec)), None, None, spec)


@_encode.register
def _levels(spec: Levels, x: Tensor, key: Key, limits: Tensor | None) -> QTensor:
    codes = encoding.encode_levels(x, decision_points(spec, x.device))
    table = level_table(spec, x.device)
    return QTensor(codes, None, None, spec, torch.where(encoding.extremes(x)[0].isnan(), torch.nan, table))


def _extent(x: Tensor, limits: Tensor | None) -> Tensor:
    """The range, of the tensor where none is given."""
    return encoding.extremes(x) if limits is None else limits


class Scaling(NamedTuple):
    """How codes come from values, as :func:`qbench.kernels.encoding.encode_scaled` takes it: magnitude, kind, divisor,
    the lowest and highest code, and the rounding to nearest."""

    magnitude: Tensor
    kind: str
    divisor: float
    low: float
    high: float
    nearest: str = "nearest"

    def arguments(self, spec: Quantizer, key: Key) -> tuple[Any, ...]:
        """All that the kernels take behind the values."""
        *numbers, nearest = self
        rounding = "stochastic" if spec.is_stochastic else nearest
        return *numbers, rounding, random_bits(spec, key), code_type(spec)


@singledispatch
def _scaling(spec: Quantizer, x: Tensor, limits: Tensor | None) -> Scaling | None:
    """That of a format of signed codes on one scale; None for every other."""
    return None


@_scaling.register
def _of_symmetric(spec: Symmetric, x: Tensor, limits: Tensor | None) -> Scaling | None:
    top = spec.largest_integer
    return None if spec.granularity == "channel" else Scaling(_extent(x, limits), "linear", top, -top, top)


@_scaling.register
def _of_direct(spec: Direct, x: Tensor, limits: Tensor | None) -> Scaling:
    top = spec.largest_integer
    return Scaling(constant(2.0 ** (1 - spec.bits), x.device), "fixed", 1.0, -top, top)


@_scaling.register
def _of_shift(spec: Shift, x: Tensor, limits: Tensor | None) -> Scaling:
    top = spec.largest_integer
    return Scaling(_extent(x, limits), "power", 2.0 ** (spec.bits - 1), -top, top)


@_scaling.register
def _of_fixed_point(spec: FixedPoint, x: Tensor, limits: Tensor | None) -> Scaling:
    half, step = spec.largest_integer, constant(2.0**-spec.fraction_bits, x.device)
    return Scaling(step, "fixed", 1.0, -half, half - 1, nearest="half_up")


def _scaled(spec: Quantizer, x: Tensor, scaling: Scaling, key: Key) -> QTensor:
    codes, scale = encoding.encode_scaled(x, *scaling.arguments(spec, key))
    return QTensor(codes, scale, None, spec)
