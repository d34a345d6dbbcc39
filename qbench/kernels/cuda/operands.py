"""Operands of the tensor-core kernels: 8-bit digits, with their channels in vectors of 16 bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import flat_grid, launch
from qbench.kernels.cuda.layout import CODE_NAMES

VECTOR = 16
DIGIT_BITS = 8
TRANSPOSE_TILE = 32
WARP = 32

LARGEST = {torch.uint8: 255, torch.int8: 128, torch.int16: 128}
"""Magnitude of an 8-bit code; of 16-bit ones, that of a byte as the weight gradient takes it."""

LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Digit:
    """8-bit codes that count 2^shift each, and their zero point, a 0-d float32 or None. The error of a weight gradient
    may be 16-bit codes."""

    codes: Tensor
    zero: Tensor | None
    shift: int = 0

    @property
    def name(self) -> str:
        """The codes' type in the kernels' sources."""
        return CODE_NAMES[self.codes.dtype]


def digits(x: Tensor, zero: Tensor | None) -> list[Digit]:
    """``x`` itself, or the two 8-bit digits of 16-bit codes, in the same memory order."""
    if x.dtype != torch.int16:
        return [Digit(x, zero)]
    low, high = (torch.empty_like(x, dtype=dtype) for dtype in (torch.uint8, torch.int8))
    assert low.stride() == x.stride(), "16-bit operands are dense"
    zeros = torch.empty(2, dtype=torch.float32, device=x.device)
    grid = max(1, flat_grid(x.numel(), x.device))  # the digits of the zero point are wanted even of no element
    launch("split_digits", grid, x, x.numel(), zero, low, high, zeros, device=x.device)
    points = (None, None) if zero is None else (zeros[0], zeros[1])
    return [Digit(low, points[0]), Digit(high, points[1], DIGIT_BITS)]


def longest(a: Digit, b: Digit) -> int:
    """How many products of two digits int32 can add up, whatever they are."""
    return LARGEST_INT32 // (LARGEST[a.codes.dtype] * LARGEST[b.codes.dtype])


def padded(channels: int) -> int:
    """``channels`` rounded up to whole vectors, at least one."""
    return max(1, -(-channels // VECTOR)) * VECTOR


def packed(digit: Digit, rows: int, channels: int, *, fill_zero: bool) -> Digit:
    """The digit's codes as [rows, padded(channels)], in its own memory where that fits already.

    Its memory is rows of ``channels`` codes. The rest of a row is the zero point, or 0 unless ``fill_zero``.
    """
    codes = digit.codes
    if channels == padded(channels) and codes.data_ptr() % VECTOR == 0:
        return digit
    return replace(digit, codes=packed_rows(codes, rows, channels, channels, 1, digit.zero if fill_zero else None))


def packed_rows(
    codes: Tensor, rows: int, columns: int, row_stride: int, column_stride: int, zero: Tensor | None
) -> Tensor:
    """[rows, padded(columns)] of a strided matrix; the rest of a row is the zero point."""
    target = torch.empty((rows, padded(columns)), dtype=codes.dtype, device=codes.device)
    grid = flat_grid(target.numel() // VECTOR, codes.device, per_thread=1)
    arguments = (_as_bytes(codes), rows, columns, row_stride, column_stride, padded(columns), zero, _as_bytes(target))
    launch("pack_rows", grid, *arguments, device=codes.device)
    return target


def transposed_rows(
    codes: Tensor, rows: int, columns: int, row_stride: int, column_stride: int, zero: Tensor | None
) -> Tensor:
    """[columns, padded(rows)]: the transpose of a strided matrix; the rest of a row is the zero point."""
    target = torch.empty((columns, padded(rows)), dtype=codes.dtype, device=codes.device)
    _transpose(codes, target, (rows, columns, 1, row_stride, column_stride, 0, 0, padded(rows)), zero, layers=1)
    return target


def transposed_filters(w: Digit, groups: int) -> Digit:
    """Filters [K, C / groups, R, S] (channels-last) as those of the input gradient: [C, R * S, padded(K / groups)],
    a group's channels after the other's. The rest of a row is 0."""
    filters, channels, taps = w.codes.shape[0] // groups, w.codes.shape[1], w.codes.shape[2:].numel()
    shape = (groups * channels, taps, padded(filters))
    target = torch.empty(shape, dtype=w.codes.dtype, device=w.codes.device)
    length = taps * channels
    sizes = (filters, channels, taps, length, 1, channels, filters * length, padded(filters))
    _transpose(w.codes, target, sizes, None, layers=groups * taps)
    return replace(w, codes=target)


def _transpose(codes: Tensor, target: Tensor, sizes: tuple[int, ...], zero: Tensor | None, *, layers: int) -> None:
    """sizes: rows, columns, taps; strides of a row, a column, a tap and a group; length of the target's rows."""
    columns, length = sizes[1], sizes[-1]
    # In one dimension, because the others take 65,535 blocks only.
    grid = (-(-columns // TRANSPOSE_TILE) * -(-length // TRANSPOSE_TILE), 1, layers)
    launch("transpose_rows", grid, _as_bytes(codes), *sizes, zero, _as_bytes(target), device=codes.device)


def _as_bytes(codes: Tensor) -> Tensor:
    """What moves codes about does not ask for their sign."""
    return codes.view(torch.uint8)


def row_sums(codes: Digit, rows: int, length: int) -> Tensor:
    """int32 [rows]: the sums of the rows of [rows, length]."""
    sums = torch.empty(rows, dtype=torch.int32, device=codes.codes.device)
    grid = flat_grid(rows * WARP, sums.device, per_thread=1)
    launch(f"row_sums<{codes.name}>", grid, codes.codes, rows, length, sums, device=sums.device)
    return sums
