"""From float32 to integer codes and back: launchers of encode.cu. See :mod:`qbench.kernels.encoding`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import Argument, flat_grid, launch
from qbench.kernels.cuda.layout import (
    CODE_NAMES,
    dense,
    draw,
    draw_if,
    fresh_extremes,
    number,
    zero_extremes,
)
from qbench.kernels.reference.encode import limits_of

SCALE_KINDS = {"fixed": 0, "linear": 1, "power": 2}


def extremes(x: Tensor) -> Tensor:
    """[min, max] of a float32 tensor."""
    if not x.numel():
        return zero_extremes(x.device)
    target = fresh_extremes(x.device)
    launch("tensor_extremes", flat_grid(x.numel(), x.device), x, x.numel(), target, device=x.device)
    return target


def encode_affine(
    x: Tensor, low: Tensor, high: Tensor, bits: int, integer_zero_point: bool, key: Sequence[int] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes clip(round(x / scale + zero), 0, 2^bits - 1), scale, zero. low, high: 0-d."""
    codes = dense(x.shape, torch.uint8 if bits <= 8 else torch.int32, x.device)
    parameters = affine_range(x.numel(), low, high, bits, integer_zero_point)
    launch(
        f"encode<{CODE_NAMES[codes.dtype]}>", flat_grid(x.numel(), x.device),
        x, x.numel(), *parameters, None, 0.0, 2.0**bits - 1, *draw_if(key), codes, device=x.device,
    )  # fmt: skip
    *_, scale, zero = parameters
    return codes, scale, zero


def affine_range(
    count: int, low: Tensor, high: Tensor, bits: int, integer_zero_point: bool
) -> tuple[Tensor, Tensor, bool, Tensor, Tensor]:
    """A range, and scale and zero point, which the encoder of ``count`` elements stores: a launch less than to compute
    them before it. Where there is no element, there is no such launch."""
    if not count:
        return low, high, integer_zero_point, *affine_parameters(low, high, bits, integer_zero_point)
    return low, high, integer_zero_point, number(low.device), number(low.device)


def known_scale(scale: Tensor) -> tuple[Argument, ...]:
    """The same of a scale that was computed before."""
    return None, None, False, scale, None


def affine_parameters(low: Tensor, high: Tensor, bits: int, integer_zero_point: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a range, computed on the device."""
    scale, zero = number(low.device), number(low.device)
    arguments = (low, high, 2.0**bits - 1, integer_zero_point, scale, zero)
    launch("prepare_affine", 1, *arguments, device=low.device, threads=32)
    return scale, zero


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
    codes = dense(x.shape, dtype, x.device)
    scale, reported = scale_of(magnitude, kind, divisor)
    launch(
        f"encode<{CODE_NAMES[dtype]}>", flat_grid(x.numel(), x.device),
        x, x.numel(), *known_scale(scale), reported, *limits_of(dtype, low, high), *draw(rounding, key), codes,
        device=x.device,
    )  # fmt: skip
    return codes, reported


def scale_of(magnitude: Tensor, kind: str, divisor: float) -> tuple[Tensor, Tensor]:
    """The scale to divide by, and the same to hand out, which a NaN among the elements turns into NaN."""
    scale, reported = number(magnitude.device), number(magnitude.device)
    arguments = (magnitude, magnitude.numel(), SCALE_KINDS[kind], float(divisor), scale, reported)
    launch("prepare_scaled", 1, *arguments, device=magnitude.device, threads=32)
    return scale, reported


def encode_channels(x: Tensor, top: float, key: Sequence[int] | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Codes clip(round(x / scale), -top, top) in ``dtype``, and each channel's scale max|x| / top."""
    codes = dense(x.shape, dtype, x.device)
    scale = dense((len(x), *[1] * (x.dim() - 1)), torch.float32, x.device)
    length = x.shape[1:].numel()
    arguments = (x, length, float(top), *draw_if(key), codes, scale)
    launch(f"encode_channels<{CODE_NAMES[dtype]}>", len(x), *arguments, device=x.device)
    return codes, scale


def encode_flag(x: Tensor, magnitude: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes in units of the fine grid: fine where |x| is below the coarse unit, coarse from there."""
    codes, steps = dense(x.shape, torch.int16, x.device), 2.0 ** (bits - 1)
    unit, reported = number(x.device), number(x.device)
    launch("prepare_flag", 1, magnitude, magnitude.numel(), steps, unit, reported, device=x.device, threads=32)
    grid = flat_grid(x.numel(), x.device)
    launch("encode_flag", grid, x, x.numel(), unit, reported, steps, codes, device=x.device)
    return codes, reported


def encode_binary(x: Tensor, scale: Tensor, key: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Codes -1 and +1: the sign (+1 for 0), or +1 with probability clip((x / scale + 1) / 2, 0, 1)."""
    codes = dense(x.shape, torch.int8, x.device)
    used, reported = scale_of(scale, "fixed", 1.0)
    grid = flat_grid(x.numel(), x.device)
    launch("encode_binary", grid, x, x.numel(), used, reported, *draw_if(key), codes, device=x.device)
    return codes, reported


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """How many of the ascending ``thresholds`` (at most 255) lie below each value; all of them for NaN."""
    codes = dense(x.shape, torch.uint8, x.device)
    grid = flat_grid(x.numel(), x.device)
    launch("encode_levels", grid, x, x.numel(), thresholds, thresholds.numel(), codes, device=x.device)
    return codes


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    """table[code] of uint8 codes."""
    values = dense(codes.shape, torch.float32, codes.device)
    launch("look_up", flat_grid(codes.numel(), codes.device), codes, codes.numel(), table, values, device=codes.device)
    return values


def decode(codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """(float(code) - zero) * scale."""
    values = dense(codes.shape, torch.float32, codes.device)
    launch(
        f"decode<{CODE_NAMES[codes.dtype]}>", flat_grid(codes.numel(), codes.device),
        codes, codes.numel(), scale, zero, values, device=codes.device,
    )  # fmt: skip
    return values


def decode_channels(codes: Tensor, scale: Tensor) -> Tensor:
    """code * scale[k]; scale: [K, 1, ..., 1]."""
    count, device, values = codes.numel(), codes.device, dense(codes.shape, torch.float32, codes.device)
    kernel, grid = f"decode_channels<{CODE_NAMES[codes.dtype]}>", flat_grid(count, device, per_thread=1)
    launch(kernel, grid, codes, count, codes.shape[1:].numel(), scale, values, device=device)
    return values


def random_words(count: int, key: Sequence[int], device: torch.device) -> Tensor:
    """The random words that elements 0 .. count - 1 are rounded with, as int64."""
    words = torch.empty(count, dtype=torch.int64, device=device)
    launch("random_words", flat_grid(count, device), count, *draw("stochastic", key), words, device=device)
    return words
