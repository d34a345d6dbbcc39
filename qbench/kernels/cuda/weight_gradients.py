"""Launches of the weight-gradient kernels."""

from __future__ import annotations

from itertools import product
from math import prod

import torch
from torch import Tensor

from qbench.kernels.cuda.convolutions import (
    MMA_THREADS,
    STAGES,
    TILE_WIDTHS,
    Factor,
    is_plain,
    plain_shape,
)
from qbench.kernels.cuda.launch import current_driver, flat_grid, launch
from qbench.kernels.cuda.layout import CODE_NAMES
from qbench.kernels.cuda.operands import LARGEST_INT32, VECTOR, Digit, digits, longest, packed, packed_rows, padded
from qbench.kernels.cuda.outcome import Outcome
from qbench.kernels.cuda.shapes import Shape

TILE_PIXELS = 64
PIXELS_OF_A_THREAD = 256
"""In the plain kernel, which has no other parallelism than its few weights."""

WIDE_OFFSET = 128
"""Taken from the errors' low bytes by the kernel, where they are 16-bit codes."""

MOST_PARTS = 65535
"""Blocks along y."""

BLOCKS_PER_MULTIPROCESSOR = 4
"""Wanted: two run at a time, and a second wave evens out what the first leaves."""


def weight_gradient(x: Factor, e: Factor, shape: Shape, outcome: Outcome, source_sums: Tensor | None = None) -> None:
    """The gradient with respect to the weight, y [K, C / groups, R, S] channels-last, of the forward ``shape``.

    source_sums: as in :func:`run`, unless the shape is a plain kernel's.
    """
    if is_plain(shape):
        assert source_sums is None
        return _plain(x, e, shape, outcome)
    pixels = shape.images * prod(shape.size) * shape.groups
    sources = [packed(digit, pixels, shape.channels, fill_zero=False) for digit in digits(*x)]
    return run(sources, [_error(e, shape)], (x[1], e[1]), shape, outcome, source_sums)


def _error(e: Factor, shape: Shape) -> Digit:
    """The error as one operand, 16-bit codes too: the kernel takes them apart."""
    rows, codes = shape.pixels * shape.groups, e[0]
    if codes.dtype != torch.int16:
        return packed(Digit(*e), rows, shape.filters, fill_zero=False)
    size = codes.element_size() * shape.filters
    if size == padded(size) and codes.data_ptr() % VECTOR == 0:
        return Digit(*e)
    memory = codes.as_strided((codes.numel(),), (1,)).view(torch.uint8)
    return Digit(packed_rows(memory, rows, size, size, 1, None).view(torch.int16), e[1])


def run(
    sources: list[Digit],
    errors: list[Digit],
    zeros: tuple[Tensor | None, Tensor | None],
    shape: Shape,
    outcome: Outcome,
    source_sums: Tensor | None = None,
) -> None:
    """All products of digits, added up in int64. Of errors that are 16-bit codes there is one.

    zeros: zero points of the whole numbers, the source's and the error's. source_sums: int64 zeros [groups, taps,
    padded channels] where the sums of the codes that each tap meets are wanted, zero points in the padding.
    """
    device = sources[0].codes.device
    is_wide = errors[0].codes.dtype == torch.int16
    filters = padded_filters(errors[0], shape)
    columns, rows = shape.num_taps * padded(shape.channels), shape.groups * filters
    sums = torch.zeros((rows, columns), dtype=torch.int64, device=device)
    error_sums = None
    if is_wide or zeros != (None, None):
        if source_sums is None:
            source_sums = torch.zeros((shape.groups, columns), dtype=torch.int64, device=device)
        error_sums = torch.zeros(rows, dtype=torch.int64, device=device)
    for (i, source), (j, error) in product(enumerate(sources), enumerate(errors)):
        # Each digit meets every digit of the other operand, but is summed once.
        own_sums = (error_sums if i == 0 else None, source_sums if j == 0 else None)
        _launch_product(source, error, shape, sums, own_sums)
    grid = flat_grid(outcome.y.numel(), device, per_thread=1)
    sizes = (shape.pixels, shape.groups, shape.filters, filters, shape.num_taps, padded(shape.channels), shape.channels)
    launch(
        "finish_weight_gradient", grid, sums, error_sums, source_sums, zeros[1], zeros[0], WIDE_OFFSET * is_wide,
        *sizes, outcome.mode, outcome.y, *outcome.scaling(), device=device,
    )  # fmt: skip


def padded_filters(error: Digit, shape: Shape) -> int:
    """Of a group, such that they are whole vectors of bytes."""
    size = error.codes.element_size()
    return padded(size * shape.filters) // size


def _launch_product(
    source: Digit, error: Digit, shape: Shape, sums: Tensor, own_sums: tuple[Tensor | None, Tensor | None]
) -> None:
    if not shape.pixels:
        return
    assert shape.images * prod(shape.size) <= LARGEST_INT32, "a batch of 2^31 pixels"
    device = sums.device
    filters, channels = padded_filters(error, shape), padded(shape.channels)
    rows, columns = error.codes.element_size() * filters, shape.num_taps * channels
    height, width = (TILE_WIDTHS[size > TILE_WIDTHS[0]] for size in (rows, columns))
    tiles = -(-rows // height) * -(-columns // width)
    per_part = pixels_per_part(shape.pixels, tiles * shape.groups, longest(source, error), device)
    launch(
        f"weight_gradient<{source.name}, {error.name}, {height}, {width}>",
        (tiles, -(-shape.pixels // per_part), shape.groups),
        source.codes, source.zero, error.codes, shape.pixels, *shape.size, channels, *shape.out_size, filters,
        shape.groups, *shape.window, per_part, source.shift + error.shift, sums, *own_sums,
        device=device, threads=MMA_THREADS, shared_bytes=STAGES * TILE_PIXELS * (height + width),
    )  # fmt: skip


def pixels_per_part(pixels: int, tiles: int, most: int, device: torch.device) -> int:
    """Parts that fill the device, whose sums int32 holds, in whole tiles of pixels."""
    wanted = BLOCKS_PER_MULTIPROCESSOR * current_driver().multiprocessors(device)
    parts = max(1, wanted // tiles)
    even = -(-pixels // parts)
    return min(-(-even // TILE_PIXELS), most // TILE_PIXELS) * TILE_PIXELS


def _plain(x: Factor, e: Factor, shape: Shape, outcome: Outcome) -> None:
    sums = torch.zeros_like(outcome.y, dtype=torch.int64)
    names = f"{CODE_NAMES[x[0].dtype]}, {CODE_NAMES[e[0].dtype]}"
    grid = flat_grid(sums.numel(), sums.device, per_thread=1)
    parts = max(1, min(-(-shape.pixels // PIXELS_OF_A_THREAD), MOST_PARTS))
    launch(f"plain_weight_gradient<{names}>", (grid, parts), *x, *e, *plain_shape(shape), sums, device=sums.device)
    outcome.finish(sums, outcome.y.shape[1])
