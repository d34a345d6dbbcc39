"""From float32 values to integer codes and back, in one pass over memory.

x: float32 of any shape. Codes have its shape and are dense, channels-last with four dimensions; that is also the order
in which elements are counted for random bits. All arithmetic is float32 with one rounding per operation, so codes are
the same on every backend.

Rounding is to nearest, half to even, where the key is None; stochastic with it. ``half_up`` is floor(v) + [v - floor(v)
>= 1/2]. Codes are clipped, not wrapped.

Poison: a scale that is not finite comes back as NaN with zero point 0 and codes 0. A NaN element gets code 0; where the
scale does not come from the data (all but :func:`encode_affine` and :func:`encode_levels`) it makes the scale NaN too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.checks import (
    SIGNED,
    Draws,
    dense,
    require_bits,
    require_extent,
    require_number,
    require_rounding,
    require_signed,
    require_type,
    words,
)
from qbench.kernels.library import ops
from qbench.kernels.reference import encode as reference

KINDS = ("fixed", "linear", "power")
ROUNDINGS = ("nearest", "half_up", "stochastic")
MOST_AFFINE_BITS = 24
MOST_FLAG_BITS = 8
MOST_LEVELS = 256


def extremes(x: Tensor) -> Tensor:
    """[min, max] of a float32 tensor: both NaN where one is in it, both 0 for an empty tensor."""
    require_type(x, "x", torch.float32)
    result: Tensor = ops.extremes(dense(x))
    return result


def encode_affine(
    x: Tensor, low: Tensor, high: Tensor, bits: int, integer_zero_point: bool, key: Draws = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Unsigned codes clip(round(x / scale + zero), 0, 2^bits - 1) of the range [low, high], with scale and zero.

    low, high: float32, 0-d, or broadcastable to x for one range per channel (then in plain torch operations).
    integer_zero_point: the range is widened to hold 0, scale = (high - low) / 2^bits and zero =
    clip(round(-low / scale), 0, 2^bits - 1); otherwise scale = (high - low) / (2^bits - 1) and zero = -low / scale,
    which is no integer. A scale below the smallest normal float32 becomes 1.

    Returns codes (uint8 up to 8 bits, else int32), scale and zero, float32 of low's shape.
    Raises TypeError for another type, ValueError for more than 24 bits.
    """
    require_type(x, "x", torch.float32)
    require_bits(bits, MOST_AFFINE_BITS)
    require_type(low, "low", torch.float32)
    require_type(high, "high", torch.float32)
    if low.shape != high.shape:
        raise ValueError(f"low has shape {tuple(low.shape)} but high has {tuple(high.shape)}")
    if low.dim():
        return reference.encode_affine(dense(x), low, high, bits, integer_zero_point, words(key))
    result: tuple[Tensor, Tensor, Tensor] = ops.encode_affine(dense(x), low, high, bits, integer_zero_point, words(key))
    return result


def encode_scaled(
    x: Tensor,
    magnitude: Tensor,
    kind: str,
    divisor: float,
    low: float,
    high: float,
    rounding: str,
    key: Draws,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Signed codes clip(round(x / scale), low, high) in ``dtype`` and the scale.

    magnitude: 0-d float32, or a range [2], whose larger magnitude is meant. kind: ``fixed``, scale = magnitude (0-d);
    ``linear``, scale = magnitude / divisor, 1 where that is below the smallest normal float32; ``power``, scale =
    P / divisor with P = 2^round(log2 magnitude), 1 for 0.
    low, high: may be infinite; they are limited to what ``dtype`` (int8, int16, int32) holds and to +-2^24.
    rounding: ``nearest``, ``half_up`` or ``stochastic``; a key goes with the last and with nothing else.

    Raises TypeError for another type, ValueError for another kind or rounding.
    """
    require_type(x, "x", torch.float32)
    check_scaled(kind, rounding, key, dtype)
    check_magnitude(magnitude, kind)
    result: tuple[Tensor, Tensor] = ops.encode_scaled(
        dense(x), dense(magnitude), kind, divisor, low, high, rounding, words(key), dtype
    )
    return result


def encode_channels(x: Tensor, top: int, key: Draws, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Signed codes clip(round(x / scale), -top, top) in ``dtype`` with a scale for each channel, dimension 0 of x:
    max|x| / top over its elements, 1 where that is below the smallest normal float32.

    top: from 1 to what ``dtype`` (int8, int16, int32) holds and to 2^24. Returns codes and scale, float32 [K, 1, ...,
    1]. A channel that is not finite has the scale NaN and codes 0. Raises TypeError for another type, ValueError for
    another top or a tensor without channels.
    """
    require_type(x, "x", torch.float32)
    if not x.dim():
        raise ValueError("x must have at least one dimension: each of its first has a scale")
    require_signed(dtype)
    most = min(torch.iinfo(dtype).max, reference.LARGEST_CODE)
    if not 1 <= top <= most:
        raise ValueError(f"top must be from 1 to {most} for {dtype}, got {top}")
    result: tuple[Tensor, Tensor] = ops.encode_channels(dense(x), top, words(key), dtype)
    return result


def check_affine(low: Tensor, high: Tensor, bits: int) -> None:
    """The checks that the encoders of affine codes in a byte share."""
    require_number(low, "low")
    require_number(high, "high")
    require_bits(bits)


def check_scaled(kind: str, rounding: str, key: Draws, dtype: torch.dtype) -> None:
    """The checks that the scaled encoders share."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    require_rounding(rounding, key, ROUNDINGS)
    require_signed(dtype)


def check_magnitude(magnitude: Tensor, kind: str) -> None:
    """Raise unless a scale of this kind can come from ``magnitude``."""
    (require_number if kind == "fixed" else require_extent)(magnitude, "magnitude")


def encode_flag(x: Tensor, magnitude: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """WAGEUBN's flag format (Yang et al. 2020): a coarse grid of unit Sc = P / 2^(bits - 1), and one 2^(bits - 1) times
    finer for |x| < Sc; P = 2^round(log2 magnitude). magnitude: 0-d float32, or a range [2], whose larger magnitude is
    meant.

    Returns int16 codes in fine units, clip(round(x / Sc), +-(2^(bits - 1) - 1)) * 2^(bits - 1) or
    round(x / Sc * 2^(bits - 1)), and the scale Sc / 2^(bits - 1). bits: at most 8. Rounds to nearest.
    """
    require_type(x, "x", torch.float32)
    require_extent(magnitude, "magnitude")
    require_bits(bits, MOST_FLAG_BITS)
    result: tuple[Tensor, Tensor] = ops.encode_flag(dense(x), dense(magnitude), bits)
    return result


def encode_binary(x: Tensor, scale: Tensor, key: Draws = None) -> tuple[Tensor, Tensor]:
    """int8 codes -1 and +1, and the scale (0-d float32): the sign of x (+1 for 0), or with a key +1 with probability
    clip((x / scale + 1) / 2, 0, 1) (Courbariaux et al. 2015, section 2.3)."""
    require_type(x, "x", torch.float32)
    require_number(scale, "scale")
    result: tuple[Tensor, Tensor] = ops.encode_binary(dense(x), scale, words(key))
    return result


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """uint8 codes of a grid of levels: how many of the ascending ``thresholds`` (float32 [levels - 1], at most 256
    levels) lie below each value; the last code for NaN."""
    require_type(x, "x", torch.float32)
    result: Tensor = ops.encode_levels(dense(x), checked_thresholds(thresholds))
    return result


def checked_thresholds(thresholds: Tensor) -> Tensor:
    """Thresholds between levels, contiguous; raises unless they are float32 [at most 255]."""
    require_type(thresholds, "thresholds", torch.float32)
    if thresholds.dim() != 1 or len(thresholds) >= MOST_LEVELS:
        raise ValueError(
            f"thresholds must be a list of at most {MOST_LEVELS - 1} values, got shape {tuple(thresholds.shape)}"
        )
    return thresholds.contiguous()


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[code]: float32 of codes' shape. codes: uint8, each below the length of ``table`` (float32)."""
    require_type(codes, "codes", torch.uint8)
    result: Tensor = ops.look_up(dense(codes), checked_table(table))
    return result


def checked_table(table: Tensor) -> Tensor:
    """The values of levels, contiguous; raises unless they are float32 [1 to 256]."""
    require_type(table, "table", torch.float32)
    if table.dim() != 1 or not 1 <= len(table) <= MOST_LEVELS:
        raise ValueError(f"table must be a list of 1 to {MOST_LEVELS} values, got shape {tuple(table.shape)}")
    return table.contiguous()


def decode(codes: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """(float(code) - zero) * scale: float32 of codes' shape.

    codes: uint8, int8, int16 or int32. scale, zero: float32, 0-d; or broadcastable to codes for one per channel, which
    is a kernel of its own (:func:`decode_channels`) for signed codes without a zero, else plain torch operations.
    """
    require_type(codes, "codes", torch.uint8, *SIGNED)
    require_type(scale, "scale", torch.float32)
    if zero is not None:
        require_type(zero, "zero", torch.float32)
    if zero is None and codes.dtype in SIGNED and 0 < scale.dim() == codes.dim() and scale.shape == _channels_of(codes):
        return decode_channels(codes, scale)
    if scale.dim() or (zero is not None and zero.dim()):
        return reference.decode(dense(codes), scale, zero)
    result: Tensor = ops.decode(dense(codes), scale, zero)
    return result


def decode_channels(codes: Tensor, scale: Tensor) -> Tensor:
    """float(code) * scale[k]: float32 of codes' shape [K, ...].

    codes: int8, int16 or int32; scale: float32 [K, 1, ..., 1], of as many dimensions. Raises TypeError and ValueError
    for others.
    """
    require_type(codes, "codes", *SIGNED)
    require_type(scale, "scale", torch.float32)
    if not codes.dim() or scale.shape != _channels_of(codes):
        raise ValueError(
            f"scale must have one value for each of the first dimension of codes, got shapes {tuple(scale.shape)} and "
            f"{tuple(codes.shape)}"
        )
    result: Tensor = ops.decode_channels(dense(codes), scale.contiguous())
    return result


def _channels_of(codes: Tensor) -> tuple[int, ...]:
    """The shape of a scale per channel."""
    return (*codes.shape[:1], *[1] * (codes.dim() - 1))
