"""Launches of the convolution kernels, on tensor cores where channels come in vectors."""

from __future__ import annotations

from itertools import product
from math import prod

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import current_driver, flat_grid, launch
from qbench.kernels.cuda.layout import CODE_NAMES
from qbench.kernels.cuda.operands import (
    LARGEST_INT32,
    VECTOR,
    Digit,
    digits,
    longest,
    packed,
    padded,
    row_sums,
    transposed_filters,
)
from qbench.kernels.cuda.outcome import ACCUMULATE, STORE_64, Outcome
from qbench.kernels.cuda.shapes import Shape

Factor = tuple[Tensor, Tensor | None]
"""Codes and their zero point."""

MMA_THREADS = 128
STAGES = 4
TILE_ROWS = 128
TILE_DEPTH = 64
"""Tiles of convolution.cu: pixels, and bytes of the depth."""

TILE_WIDTHS = (64, 128)
"""Filters (or columns) per tile."""


def convolve(x: Factor, w: Factor, shape: Shape, outcome: Outcome) -> None:
    """The convolution of x [N, C, H, W] with filters w [K, C / groups, R, S], both channels-last."""
    if is_plain(shape):
        return _plain("plain_convolve", x, w, shape, outcome)
    pixels = shape.images * prod(shape.size) * shape.groups
    sources = [packed(digit, pixels, shape.channels, fill_zero=True) for digit in digits(*x)]
    rows = shape.groups * shape.filters * shape.num_taps
    filters = [packed(digit, rows, shape.channels, fill_zero=False) for digit in digits(*w)]
    return run(sources, filters, shape, outcome)


def convolve_transposed(e: Factor, w: Factor, shape: Shape, outcome: Outcome) -> None:
    """The gradient with respect to the input: e [N, K, H', W'], w as above; ``shape`` is the forward convolution's."""
    if is_plain(shape):
        return _plain("plain_input_gradient", e, w, shape, outcome)
    sources = [packed(digit, shape.pixels * shape.groups, shape.filters, fill_zero=True) for digit in digits(*e)]
    filters = [transposed_filters(digit, shape.groups) for digit in digits(*w)]
    return run(sources, filters, backward(shape), outcome, is_transposed=True)


def is_plain(shape: Shape) -> bool:
    """Whether groups are too small or too ragged to be padded to vectors."""
    return shape.groups > 1 and (shape.channels % VECTOR != 0 or shape.filters % VECTOR != 0)


def backward(shape: Shape) -> Shape:
    """The transposed convolution's own shape: its source is the forward one's output."""
    return Shape(
        shape.images, shape.out_size, shape.filters, shape.size, shape.channels, shape.groups,
        shape.taps, shape.stride, shape.padding, shape.dilation,
    )  # fmt: skip


def run(
    sources: list[Digit], filters: list[Digit], shape: Shape, outcome: Outcome, *, is_transposed: bool = False
) -> None:
    """All products of digits, and all parts of a depth too long for int32, added up in int64 if there are several."""
    vectors = shape.num_taps * padded(shape.channels) // VECTOR
    parts = [
        (source, w, begin, min(begin + step, vectors))
        for source, w in product(sources, filters)
        for step in [longest(source, w) // VECTOR]
        for begin in range(0, vectors, step)
    ]
    if len(parts) == 1 and outcome.mode != STORE_64:
        target, mode = outcome, outcome.mode
    else:
        sums = outcome.y.zero_() if outcome.mode == STORE_64 else torch.zeros_like(outcome.y, dtype=torch.int64)
        target, mode = Outcome(sums), ACCUMULATE
    for source, w, begin, end in parts:
        _launch_part(source, w, shape, target, mode, (begin, end, end == vectors), is_transposed)
    if target.y is not outcome.y:
        outcome.finish(target.y, shape.groups * shape.filters)


def _launch_part(
    source: Digit,
    w: Digit,
    shape: Shape,
    outcome: Outcome,
    mode: int,
    depth: tuple[int, int, bool],
    is_transposed: bool,
) -> None:
    device, channels = source.codes.device, padded(shape.channels)
    phases = prod(shape.stride) if is_transposed else 1
    per_phase = [-(-size // stride) for size, stride in zip(shape.out_size, shape.stride, strict=True)]
    rows = shape.images * prod(per_phase if is_transposed else shape.out_size)
    assert rows <= LARGEST_INT32, "a batch of 2^31 pixels"
    assert prod(shape.size) * channels * shape.groups <= LARGEST_INT32, "an image of 2^31 codes"
    assert w.codes.numel() <= LARGEST_INT32, "2^31 weights"
    tiles = -(-rows // TILE_ROWS)
    width = tile_width(shape.filters, tiles * phases * shape.groups, device)
    tap_sums = None
    if source.zero is not None:
        tap_sums = row_sums(w, shape.groups * shape.filters * shape.num_taps, channels)
    has_zeros = source.zero is not None or w.zero is not None
    launch(
        f"convolve<{source.name}, {w.name}, {width}, {str(has_zeros).lower()}>",
        (tiles * -(-shape.filters // width), 1, shape.groups * phases),
        source.codes, source.zero, w.codes, w.zero, tap_sums, shape.images, *shape.size, channels, *shape.out_size,
        shape.filters, shape.groups, *shape.window, is_transposed, *depth, mode, source.shift + w.shift,
        outcome.y, *outcome.scaling(), *outcome.ending(),
        device=device, threads=MMA_THREADS,
        shared_bytes=STAGES * (TILE_ROWS + width) * TILE_DEPTH + 8 * width + 4 * TILE_ROWS,
    )  # fmt: skip


def tile_width(filters: int, row_tiles: int, device: torch.device) -> int:
    """The wide tile, which reads each source fewer times, unless it leaves multiprocessors idle."""
    narrow, wide = TILE_WIDTHS
    blocks = row_tiles * -(-filters // wide)
    return wide if filters > narrow and blocks >= current_driver().multiprocessors(device) else narrow


def _plain(kernel: str, a: Factor, b: Factor, shape: Shape, outcome: Outcome) -> None:
    sums = torch.empty_like(outcome.y, dtype=torch.int64)
    names = f"{CODE_NAMES[a[0].dtype]}, {CODE_NAMES[b[0].dtype]}"
    grid = flat_grid(sums.numel(), sums.device, per_thread=1)
    launch(f"{kernel}<{names}>", grid, *a, *b, *plain_shape(shape), sums, device=sums.device)
    outcome.finish(sums, outcome.y.shape[1])


def plain_shape(shape: Shape) -> tuple[int, ...]:
    """The numbers that the plain kernels take."""
    sizes = (shape.images, *shape.size, shape.channels, *shape.out_size, shape.filters, shape.groups)
    return (*sizes, *shape.window)
