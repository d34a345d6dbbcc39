"""Blocks of kernels: the chains of a training step, with ranges that clip, constant channels and poisoned values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_cases_range_norm import CONSTANT, SHAPES, codes_of, per_channel
from kernel_matrix import Case, integers, normal, number
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference import passes, pooling

KEYS = {"nearest": None, "philox": [11, 12, 13, 0], "hash": [11, 12, 13, 1]}
FILLED = {name: shape for name, shape in SHAPES.items() if shape[1]}
EMPTY = {"no-rows": (0, 5), "no-images": (0, 5, 6, 8)}
EPS = 1e-5
POOLED = {
    "odd": ((3, 5, 7, 6), (3, 3, 2, 2, 1, 1)), "even": ((2, 64, 9, 9), (3, 3, 2, 2, 1, 1)),
    "apart": ((2, 3, 8, 5), (2, 1, 3, 2, 0, 0)), "overlapping": ((1, 16, 6, 40), (4, 3, 1, 1, 2, 1)),
    "large": ((2, 40, 41, 43), (3, 3, 2, 2, 1, 1)), "odd-rows": ((2, 7, 61, 47), (2, 2, 2, 2, 0, 0)),
}  # fmt: skip
"""Shapes of images, and kernel, stride and padding of the pooling behind their norm."""


def image(shape: tuple[int, ...], seed: int) -> Tensor:
    return dense(normal(shape, seed=seed))


def spoiled(shape: tuple[int, ...], seed: int, value: float) -> Tensor:
    x = image(shape, seed)
    x.select(0, -1).select(0, -1).fill_(value)
    return x


def ranged(shape: tuple[int, ...], bits: int, whole: bool, key: Any, fill: float | None = None) -> tuple[Any, ...]:
    x = image(shape, 91) if fill is None else torch.full_like(image(shape, 91), fill)
    return x, bits, whole, key


def norm(
    shape: tuple[int, ...], chunks: int, relu: bool, key: Any, bits: int = 8, high: float = 2.5, last: float = 0.3
) -> tuple[Any, ...]:
    weight, bias = per_channel(shape, 92), per_channel(shape, 93)
    y = spoiled(shape, 94, last)
    return y, number(-1.7), number(high), bits, key, chunks, weight, bias, CONSTANT, EPS, relu


def gradient(
    shape: tuple[int, ...], kind: str, chunks: int, relu: bool, key: Any, *, masked: bool = False, last: float = 0.3,
    pool: tuple[int, ...] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    codes, window = codes_of(shape, kind), None
    if pool is not None:
        window = pooling.max_pool2d(image(shape, 71), pool[:2], pool[2:4], pool[4:])[1]
    g = spoiled(shape if window is None else tuple(window.shape), 95, last)
    mask = integers((-(-g.numel() // 8),), torch.uint8, seed=96) if masked else None
    slope, offset = per_channel(shape, 97), per_channel(shape, 98) * 40
    _, _, _, low_at, high_at = passes.chunk_statistics(codes, chunks)
    mean, inverse = per_channel(shape, 99).double() + 120, 1 / (per_channel(shape, 75).double().abs() + 0.1)
    return (
        g, mask, window, pool, codes, slope, offset, relu, 8, key, number(0.0173), mean, inverse,
        per_channel(shape, 72), CONSTANT, low_at, high_at,
    )  # fmt: skip


def pair(
    shape: tuple[int, ...], bits: int, key: Any, rounding: str, wide_key: Any, top: float, dtype: torch.dtype,
    value: float = 9e-3,
) -> tuple[Any, ...]:  # fmt: skip
    codes = integers(shape, torch.uint8, seed=90)
    slope, offset = per_channel(shape, 89) * 1e-5, per_channel(shape, 88) * 1e-4
    at = torch.arange(0, codes.numel(), max(1, codes.numel() // 7))
    values = normal((len(at),), seed=87) * 1e-3
    values[-1:] = value
    return codes, slope, offset, at, values, bits, key, top, rounding, wide_key, dtype


def error(shape: tuple[int, ...], bits: int, key: Any, value: float = 9e-3) -> tuple[Any, ...]:
    return pair(shape, bits, key, "nearest", None, 127.0, torch.int8, value)[:7]


def _cases() -> Iterator[Case]:
    for (label, shape), (rounding, key) in product(SHAPES.items(), KEYS.items()):
        for bits, whole in ((8, True), (2, True), (12, False)):
            name = f"{label}-{bits}-{'whole' if whole else 'offset'}-{rounding}"
            yield Case("encode_ranged", name, partial(ranged, shape, bits, whole, key))
    for fill in (0.0, -3.25, math.nan, math.inf, 1e-42):
        yield Case("encode_ranged", f"constant-{fill}", partial(ranged, SHAPES["4d"], 8, True, None, fill))
    for (label, shape), chunks, relu, (rounding, key) in product(FILLED.items(), (1, 4), (False, True), KEYS.items()):
        name = f"{label}-{chunks}-{'relu-' if relu else ''}{rounding}"
        yield Case("range_norm", name, partial(norm, shape, chunks, relu, key))
        for masked, kind in product((False, True), ("random", "constant-chunk")):
            build = partial(gradient, shape, kind, chunks, relu, key, masked=masked)
            yield Case("range_norm_gradient_", f"{name}-{kind}{'-masked' if masked else ''}", build)
    four = SHAPES["4d"]
    for value in (math.nan, math.inf, -math.inf):
        yield Case("range_norm", f"poisoned-{value}", partial(norm, four, 4, False, None, last=value))
        for masked in (False, True):
            build = partial(gradient, four, "random", 4, False, None, masked=masked, last=value)
            yield Case("range_norm_gradient_", f"poisoned-{value}-{masked}", build)
        build = partial(pair, four, 8, None, "nearest", None, 32767.0, torch.int16, value)
        yield Case("encode_error_pair", f"poisoned-{value}", build)
        yield Case("encode_error", f"poisoned-{value}", partial(error, four, 8, None, value))
    yield Case("range_norm", "range-nan", partial(norm, four, 4, True, None, high=math.nan))
    yield Case("range_norm", "4-bits", partial(norm, four, 4, True, None, bits=4))
    for (label, shape), (rounding, key) in product((SHAPES | EMPTY).items(), KEYS.items()):
        wide = "nearest" if key is None else "stochastic"
        for bits, top, dtype in ((8, 32767.0, torch.int16), (5, 127.0, torch.int8)):
            build = partial(pair, shape, bits, key, wide, key, top, dtype)
            yield Case("encode_error_pair", f"{label}-{bits}-{rounding}", build)
            yield Case("encode_error", f"{label}-{bits}-{rounding}", partial(error, shape, bits, key))


def _pooled() -> Iterator[Case]:
    for (label, (shape, pool)), relu, (rounding, key) in product(POOLED.items(), (False, True), KEYS.items()):
        name = f"pooled-{label}-{'relu-' if relu else ''}{rounding}"
        yield Case("range_norm_gradient_", name, partial(gradient, shape, "random", 1, relu, key, pool=pool))
    shape, pool = POOLED["odd"]
    for value in (math.nan, math.inf, -math.inf):
        build = partial(gradient, shape, "random", 2, True, None, last=value, pool=pool)
        yield Case("range_norm_gradient_", f"pooled-poisoned-{value}", build)


CASES = (*_cases(), *_pooled())
