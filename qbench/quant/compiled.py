"""The common formats on the CPU, through compiled loops: the reference's codes at memory speed.

A format that is not here, or a per-channel one, takes the reference path.
"""

from __future__ import annotations

import math
from functools import singledispatch

import numpy as np
import torch
from torch import Tensor

from qbench.kernels.encode import encode_affine, encode_levels, encode_scaled
from qbench.kernels.random import Key
from qbench.quant.formats import Affine, Constant, Direct, Levels, Quantizer, Shift, Symmetric
from qbench.quant.levels import decision_points, level_table
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import MAX_EXPONENT, Range, measure_range


@singledispatch
def quantize(spec: Quantizer, x: Tensor, key: Key, limits: Range | None) -> QTensor | None:
    """``x`` (float32, CPU, not empty) in the format ``spec``; None where no compiled loop covers the format."""
    return None


@quantize.register
def _affine(spec: Affine, x: Tensor, key: Key, limits: Range | None) -> QTensor | None:
    if spec.granularity == "channel":
        return None
    low, high = limits if limits is not None else measure_range(spec, x)
    draws = key if spec.rounding == "stochastic" else None
    codes, scale, zero_point = encode_affine(
        x, float(low), float(high), spec.bits, integer_zero_point=spec.scheme == "zero_point", key=draws
    )
    return QTensor(codes, _scalar(scale), _scalar(zero_point), spec)


@quantize.register
def _symmetric(spec: Symmetric, x: Tensor, key: Key, limits: Range | None) -> QTensor | None:
    if spec.granularity == "channel":
        return None
    top = 2.0 ** (spec.bits - 1) - 1
    scale = float(np.float32(_largest(x)) / np.float32(top))
    if abs(scale) < torch.finfo(torch.float32).tiny:
        scale = 1.0
    return _scaled(spec, x, scale, top, key if spec.rounding == "stochastic" else None)


@quantize.register
def _direct(spec: Direct, x: Tensor, key: Key, limits: Range | None) -> QTensor:
    steps = 2.0 ** (spec.bits - 1)
    top = math.inf if spec.limit is None else spec.limit * steps
    return _scaled(spec, x, 1 / steps, top, key if spec.rounding == "stochastic" else None)


@quantize.register
def _shift(spec: Shift, x: Tensor, key: Key, limits: Range | None) -> QTensor:
    steps = 2.0 ** (spec.bits - 1)
    return _scaled(spec, x, _power_of_two(_largest(x)) / steps, steps - 1 if spec.clip == "inside" else steps, None)


@quantize.register
def _constant(spec: Constant, x: Tensor, key: Key, limits: Range | None) -> QTensor:
    codes = encode_scaled(x, _power_of_two(_largest(x)) / spec.levels, spec.levels - 1.0, key)
    return QTensor(codes, _scalar(2.0 ** (1 - spec.grid_bits)), None, spec)


@quantize.register
def _levels(spec: Levels, x: Tensor, key: Key, limits: Range | None) -> QTensor:
    # One sum finds a NaN (or infinities of both signs, which a sum turns into one: those are looked at again).
    suspect = bool(x.sum().isnan()) and bool(x.isnan().any())
    table = level_table(spec)
    codes = encode_levels(x, decision_points(spec))
    return QTensor(codes, None, None, spec, torch.full_like(table, torch.nan) if suspect else table)


def _scaled(spec: Quantizer, x: Tensor, scale: float, top: float, key: Key | None) -> QTensor:
    return QTensor(encode_scaled(x, scale, top, key), _scalar(scale), None, spec)


def _largest(x: Tensor) -> float:
    low, high = torch.aminmax(x)
    return max(-float(low), float(high))


def _power_of_two(largest: float) -> float:
    """As :func:`qbench.quant.ranges.power_of_two`, on a Python number."""
    if largest == 0:
        return 1.0
    if not math.isfinite(largest):
        return math.nan
    mantissa, exponent = math.frexp(largest)
    return math.ldexp(1.0, min(exponent - (mantissa < 0.5**0.5), MAX_EXPONENT))


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)
