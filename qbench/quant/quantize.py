"""Encoding: one function per number format, all behind :func:`quantize`.

:func:`encode` is the reference, plain torch operations on any device; on the CPU the common formats take the compiled
loops of :mod:`qbench.quant.compiled` instead, which give the same codes bit for bit.

Non-finite input: where the scale comes from the data, one NaN or infinity makes the scale NaN, so the whole tensor
dequantises to NaN and training reports divergence; a fixed grid clips infinities and keeps NaN. A zero tensor gives
zeros, a constant tensor its value within one step, an empty tensor an empty tensor.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor

from qbench.kernels.random import Key, stochastic_round
from qbench.quant import compiled
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
    Rounding,
    Shift,
    Symmetric,
)
from qbench.quant.levels import decision_points, level_table
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import Range, largest_magnitude, measure_range, power_of_two


def quantize(spec: Quantizer, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    """Encode ``x`` (float32, any shape) in the format ``spec``.

    key: of the random bits, used by stochastic formats only. limits: the range to use instead of the tensor's own
    (affine formats). Returns codes of ``x``'s shape, integer-valued in float32.
    """
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.numel():
        q = compiled.quantize(spec, x, key, limits)
        if q is not None:
            return q
    return encode(spec, x, key, limits)


@singledispatch
def encode(spec: Quantizer, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    """The reference of :func:`quantize`. A new format registers its function here."""
    raise TypeError(f"no quantizer for {type(spec).__name__}")


def _round(x: Tensor, rounding: Rounding, key: Key) -> Tensor:
    return stochastic_round(x, key) if rounding == "stochastic" else x.round()


@encode.register
def _affine(spec: Affine, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    low, high = limits if limits is not None else measure_range(spec, x)
    top = 2.0**spec.bits - 1
    if spec.scheme == "zero_point":
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = _nonzero((high - low) / 2.0**spec.bits)
        # The paper clips the zero point to 2^bits; one less keeps real zero a code when all values are negative.
        zero_point = (-low / scale).round().clamp(0, top)
    else:
        scale = _nonzero((high - low) / top)
        zero_point = -low / scale
    codes = _round(x / scale + zero_point, spec.rounding, key).clamp(0, top)
    return QTensor(codes, scale, zero_point, spec)


def _nonzero(scale: Tensor) -> Tensor:
    """1 where a scale is 0 (zero or constant tensors; a subnormal range would divide to infinity just the same)."""
    return torch.where(scale.abs() < torch.finfo(scale.dtype).tiny, 1.0, scale)


@encode.register
def _symmetric(spec: Symmetric, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    top = 2.0 ** (spec.bits - 1) - 1
    largest = largest_magnitude(x) if spec.granularity == "tensor" else _largest_per_channel(x)
    scale = _nonzero(largest / top)
    return QTensor(_round(x / scale, spec.rounding, key).clamp(-top, top), scale, None, spec)


def _largest_per_channel(x: Tensor) -> Tensor:
    return x.abs().flatten(1).amax(1).view(-1, *[1] * (x.dim() - 1))


def power_of_two_range(x: Tensor) -> Tensor:
    """R = 2^round(log2 max|x|) as a 0-d float32; 1 for a zero or empty tensor, NaN where a value is not finite."""
    return power_of_two(largest_magnitude(x))


@encode.register
def _direct(spec: Direct, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    steps = 2.0 ** (spec.bits - 1)
    codes = _round(x * steps, spec.rounding, key)
    if spec.limit is not None:
        codes = codes.clamp(-spec.limit * steps, spec.limit * steps)
    return QTensor(codes, x.new_tensor(1 / steps), None, spec)


@encode.register
def _shift(spec: Shift, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    steps = 2.0 ** (spec.bits - 1)
    top = steps - 1 if spec.clip == "inside" else steps
    scale = power_of_two_range(x) / steps
    return QTensor((x / scale).round().clamp(-top, top), scale, None, spec)


@encode.register
def _flag(spec: Flag, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    # Codes count the fine grid: Sc / 2^(k-1). A flagged value is a multiple of 2^(k-1).
    steps = 2.0 ** (spec.bits - 1)
    unit = power_of_two_range(x) / steps
    y = x / unit
    coarse = y.round().clamp(-steps + 1, steps - 1) * steps
    codes = torch.where(y.abs() >= 1, coarse, (y * steps).round())
    return QTensor(codes, unit / steps, None, spec)


@encode.register
def _constant(spec: Constant, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    top = float(spec.levels - 1)
    codes = stochastic_round(x / power_of_two_range(x) * spec.levels, key).clamp(-top, top)
    return QTensor(codes, x.new_tensor(2.0 ** (1 - spec.grid_bits)), None, spec)


@encode.register
def _binary(spec: Binary, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    assert isinstance(spec.scale, float), "a glorot scale is resolved per layer before anything is quantised"
    if spec.rounding == "stochastic":
        probability = ((x / spec.scale + 1) / 2).clamp(0, 1)
        codes = stochastic_round(probability, key) * 2 - 1
    else:
        codes = torch.where(x.isnan(), x, torch.where(x >= 0, 1.0, -1.0))
    return QTensor(codes, x.new_tensor(spec.scale), None, spec)


@encode.register
def _fixed_point(spec: FixedPoint, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    steps = 2.0**spec.fraction_bits
    y = x * steps
    codes = stochastic_round(y, key) if spec.rounding == "stochastic" else _round_half_up(y)
    half = 2.0 ** (spec.integer_bits + spec.fraction_bits - 1)
    return QTensor(codes.clamp(-half, half - 1), x.new_tensor(1 / steps), None, spec)


def _round_half_up(y: Tensor) -> Tensor:
    """floor(y + 1/2) without its rounding error: y + 1/2 is not exact for the float32 just below 1/2."""
    floor = y.floor()
    return torch.where(y - floor >= 0.5, floor + 1, floor)


@encode.register
def _float(spec: Float, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    dtype = torch.float16 if spec.dtype == "float16" else torch.bfloat16
    return QTensor(x.to(dtype).to(x.dtype), None, None, spec)


@encode.register
def _levels(spec: Levels, x: Tensor, key: Key, limits: Range | None = None) -> QTensor:
    codes = torch.bucketize(x.contiguous(), decision_points(spec).to(x.device))
    table = level_table(spec).to(x.device)
    return QTensor(codes.to(x.dtype), None, None, spec, torch.where(x.isnan().any(), torch.nan, table))
