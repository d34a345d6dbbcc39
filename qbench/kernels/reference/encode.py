"""From float32 to integer codes and back. See :mod:`qbench.kernels.encoding` for what each function promises.

All arithmetic is float32, one rounding per operation; divisors are tensors because PyTorch divides by a Python number
on CUDA through its reciprocal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.random import FRACTION_BITS, Key, counted, random_words, uncounted

TINY = 2.0**-126
"""Smallest normal float32: a smaller scale would divide to infinity."""

MAX_EXPONENT = 127
LARGEST_CODE = 2**24
"""Codes are rounded in float32, which holds every integer up to here."""


def extremes(x: Tensor) -> Tensor:
    """[min, max] of a float32 tensor of any shape: both NaN where one is in it, 0 for an empty tensor."""
    return torch.stack(torch.aminmax(x)) if x.numel() else x.new_zeros(2)


def encode_affine(
    x: Tensor, low: Tensor, high: Tensor, bits: int, integer_zero_point: bool, key: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes clip(round(x / scale + zero), 0, 2^bits - 1), scale, zero."""
    scale, zero = affine_parameters(low, high, bits, integer_zero_point)
    rounded = rounded_to_integer(x / scale + zero, "nearest" if key is None else "stochastic", key)
    codes = clipped(rounded, 0.0, 2.0**bits - 1).to(torch.uint8 if bits <= 8 else torch.int32)
    return dense(codes), scale, torch.where(scale.isnan(), 0.0, zero)


def affine_parameters(low: Tensor, high: Tensor, bits: int, integer_zero_point: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point of the range [low, high] (0-d or per channel); both NaN where the scale is not finite.

    integer_zero_point: the range is widened to hold 0, scale = (high - low) / 2^bits, zero = clip(round(-low / scale)).
    Otherwise scale = (high - low) / (2^bits - 1) and zero = -low / scale.
    """
    steps = 2.0**bits
    if integer_zero_point:
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = usable((high - low) / number(steps, low))
        return scale, (-low / scale).round().clamp(0, steps - 1)
    scale = usable((high - low) / number(steps - 1, low))
    return scale, -low / scale


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
    """Codes clip(round(x / scale), low, high) in ``dtype``, and the scale, NaN where x holds one."""
    scale = scale_of(magnitude, kind, divisor)
    rounded = rounded_to_integer(x / scale, rounding, key)
    codes = clipped(rounded, *limits_of(dtype, low, high)).to(dtype)
    return dense(codes), poisoned_by(x, scale)


def scale_of(magnitude: Tensor, kind: str, divisor: float) -> Tensor:
    """The scale of signed codes, NaN where it is not finite: ``fixed`` magnitude; ``linear`` magnitude / divisor, 1
    below the smallest normal number; ``power`` 2^round(log2 magnitude) / divisor, 1 below it too.

    magnitude: 0-d, or a range [2], whose larger magnitude is meant.
    """
    magnitude = magnitude.abs().max() if magnitude.dim() else magnitude
    if kind == "fixed":
        return finite_or_nan(magnitude)
    if kind == "linear":
        return usable(magnitude / number(divisor, magnitude))
    assert kind == "power", kind
    return usable(power_of_two(magnitude) / number(divisor, magnitude))


def power_of_two(largest: Tensor) -> Tensor:
    """2^round(log2 largest), at most 2^127; 1 for 0 and NaN for what is not finite. The exponent comes from the bits
    of the number and goes into those of the power: logarithms and powers round."""
    mantissa, exponent = torch.frexp(largest.double())  # largest = mantissa * 2^exponent, mantissa in [0.5, 1)
    exponent = exponent.long() - (mantissa.float() < number(0.5**0.5, largest)).long()
    power = (exponent.clamp(-149, MAX_EXPONENT) + 1023 << 52).view(torch.float64).float()
    return torch.where(largest == 0, 1.0, torch.where(largest.isfinite(), power, torch.nan))


def encode_channels(x: Tensor, top: float, key: Sequence[int] | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Codes clip(round(x / scale), -top, top) in ``dtype``, and each channel's scale max|x| / top."""
    shape = (*x.shape[:1], *[1] * (x.dim() - 1))
    largest = x.abs().reshape(len(x), -1).amax(1) if x.numel() else x.new_zeros(len(x))
    scale = usable(largest / number(top, x)).view(shape)
    rounded = rounded_to_integer(x / scale, "nearest" if key is None else "stochastic", key)
    return dense(clipped(rounded, -top, top).to(dtype)), scale


def encode_flag(x: Tensor, magnitude: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes in units of the fine grid, P / 4^(bits - 1); coarse ones where |x| reaches P / 2^(bits - 1)."""
    steps = 2.0 ** (bits - 1)
    fine = scale_of(magnitude, "power", steps * steps)
    y = x / (fine * steps)
    coarse = y.round().clamp(-steps + 1, steps - 1) * steps
    codes = torch.where(y.abs() >= 1, coarse, (y * steps).round())
    return dense(without_nan(codes).to(torch.int16)), poisoned_by(x, fine)


def encode_binary(x: Tensor, scale: Tensor, key: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Codes -1 and +1: the sign (+1 for 0), or +1 with probability clip((x / scale + 1) / 2, 0, 1)."""
    scale = finite_or_nan(scale)
    if key is None:
        codes = torch.where(x >= 0, 1.0, -1.0)
    else:
        probability = ((x / scale + 1) * 0.5).clamp(0, 1)
        codes = rounded_to_integer(probability, "stochastic", key) * 2 - 1
    return dense(torch.where(x.isnan() | scale.isnan(), 0.0, codes).to(torch.int8)), poisoned_by(x, scale)


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """How many of the ascending ``thresholds`` lie below each value; all of them for NaN."""
    codes = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
    for threshold in thresholds:
        codes += ~(x <= threshold)
    return dense(codes)


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[code]."""
    return dense(table[codes.long()])


def decode(codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """(float(code) - zero) * scale."""
    values = codes.to(torch.float32)
    return (values if zero is None else values - zero) * scale


def decode_channels(codes: Tensor, scale: Tensor) -> Tensor:
    """code * scale[k]; scale: [K, 1, ..., 1]."""
    return codes.to(torch.float32) * scale


def rounded_to_integer(v: Tensor, rounding: str, key: Sequence[int] | None) -> Tensor:
    """``nearest`` (half to even), ``half_up``, or ``stochastic``: up where the element's 24 random bits are below its
    fraction * 2^24. NaN and infinities pass."""
    if rounding == "nearest":
        return v.round()
    floor = v.floor()
    if rounding == "half_up":
        return floor + (v - floor >= 0.5).to(v.dtype)
    assert rounding == "stochastic" and key is not None, rounding
    order = counted(v)
    words = random_words(v.numel(), Key.of(key), v.device).view(order.shape) >> (32 - FRACTION_BITS)
    up = uncounted(words, v).to(v.dtype) < (v - floor) * 2.0**FRACTION_BITS
    return floor + up.to(v.dtype)


def clipped(v: Tensor, low: float, high: float) -> Tensor:
    """``v`` within [low, high], 0 where it is NaN."""
    return without_nan(v).clamp(low, high)


def limits_of(dtype: torch.dtype, low: float, high: float) -> tuple[float, float]:
    """[low, high] limited to what ``dtype`` holds, and to 2^24."""
    info = torch.iinfo(dtype)
    return float(max(low, info.min, -LARGEST_CODE)), float(min(high, info.max, LARGEST_CODE))


def usable(scale: Tensor) -> Tensor:
    """1 in place of a scale below the smallest normal number, NaN in place of one that is not finite."""
    return finite_or_nan(torch.where(scale.abs() < TINY, 1.0, scale))


def finite_or_nan(scale: Tensor) -> Tensor:
    """NaN in place of infinities."""
    return torch.where(scale.isfinite(), scale, torch.nan)


def poisoned_by(x: Tensor, scale: Tensor) -> Tensor:
    """NaN in place of the scale of a tensor that holds one."""
    return torch.where(x.isnan().any(), torch.nan, scale)


def without_nan(v: Tensor) -> Tensor:
    """0 in place of NaN."""
    return torch.where(v.isnan(), 0.0, v)


def number(value: float, like: Tensor) -> Tensor:
    """``value`` as a 0-d float32 tensor, filled on the device of ``like``: a copy would make the host wait."""
    return torch.full((), value, dtype=torch.float32, device=like.device)
