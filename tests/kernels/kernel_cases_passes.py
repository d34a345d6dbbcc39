"""Inputs of the passes over channels-last codes and of packing and pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_cases_encoding import KEYS, with_range, with_values
from kernel_matrix import Case, generator, integers, normal, number
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference import passes as reference
from qbench.kernels.reference.encode import extremes
from qbench.kernels.reference.packing import pack_bits
from qbench.kernels.reference.pooling import max_pool2d

SHAPES = {
    "4d": (4, 5, 6, 7), "2d": (48, 13), "one-channel": (2, 1, 9, 8), "one-row": (1, 37, 1, 1),
    "16-channels": (2, 16, 8, 8), "17-channels": (4, 17, 5, 4), "64-channels": (2, 64, 6, 6),
    "40-channels": (3, 40, 1, 1), "48-channels": (27, 48),
    "many-channels": (2, 513, 2, 2), "large": (4, 24, 19, 20), "no-rows": (0, 5, 3, 3), "no-channels": (4, 0),
}  # fmt: skip
SUMS_TOLERANCE = 1e-10
"""Of float64 sums, whose order is free: 2^-53 times a few thousand elements, and the same of cancelled ones."""

FILLS: dict[str, int | None] = {"random": None, "all-0": 0, "all-255": 255}


def channels(shape: tuple[int, ...], seed: int, *, positive: bool = False) -> Tensor:
    values = normal((shape[1],), seed=seed)
    return values.abs() if positive else values


def view(shape: tuple[int, ...], relu: bool, fill: int | None = None) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Codes with a slope of either sign per channel; about half the values are negative."""
    slope = channels(shape, 21) * 0.01
    return integers(shape, torch.uint8, fill, seed=20), slope, -127 * slope + channels(shape, 22) * 0.1, relu


def replaced(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Distinct elements in no order, and their values."""
    count = math.prod(shape)
    at = torch.randperm(count, generator=generator(23))[: min(count, 2 * shape[1] + 1)]
    return at, normal((at.numel(),), seed=24)


def statistics(shape: tuple[int, ...], fill: int | None, chunks: int) -> tuple[Any, ...]:
    return integers(shape, torch.uint8, fill, seed=20), chunks


def few_codes(shape: tuple[int, ...], chunks: int) -> tuple[Any, ...]:
    """Extremes are attained by many rows."""
    return dense((integers(shape, torch.uint8, seed=20) & 3) + 120), chunks


def extremes_of_view(shape: tuple[int, ...], relu: bool, points: bool) -> tuple[Any, ...]:
    return (*view(shape, relu), *(replaced(shape) if points else (None, None)))


def affine_of_view(
    shape: tuple[int, ...], relu: bool, key: list[int] | None, points: bool, bits: int
) -> tuple[Any, ...]:
    codes = view(shape, relu)
    at, values = replaced(shape) if points else (None, None)
    low, high = reference.view_extremes(*codes, at, values)
    return (*codes, low, high, bits, True, key, at, values)


def min_offset_of_view(shape: tuple[int, ...], key: list[int] | None) -> tuple[Any, ...]:
    codes = view(shape, False)
    low, high = reference.view_extremes(*codes, None, None)
    return (*codes, low, high, 8, False, key, None, None)


def scaled_of_view(
    shape: tuple[int, ...],
    relu: bool,
    kind: str,
    rounding: str,
    key: list[int] | None,
    dtype: torch.dtype,
    points: bool,
) -> tuple[Any, ...]:
    codes = view(shape, relu)
    at, values = replaced(shape) if points else (None, None)
    magnitude = number(2.0**-7) if kind == "fixed" else reference.view_extremes(*codes, at, values).abs().max()
    top = 127.0 if dtype == torch.int8 else 32767.0
    return (*codes, magnitude, kind, top, -top, top, rounding, key, dtype, at, values)


def poisoned_view(relu: bool, of_slope: float = math.nan, of_offset: float = 0.0) -> tuple[Any, ...]:
    codes, slope, offset, _ = view((2, 5, 4, 3), relu)
    slope[2], offset[2] = of_slope, of_offset
    return codes, slope, offset, relu


def trunk_of(shape: tuple[int, ...], kind: str) -> Tensor | None:
    if kind == "none":
        return None
    trunk = normal(shape, seed=25)
    return trunk if kind == "normal" else with_values(trunk, math.nan, math.inf, -math.inf)


def finished(shape: tuple[int, ...], relu: bool, trunk: str) -> tuple[Any, ...]:
    return (*view(shape, relu), trunk_of(shape, trunk))


def table_of(size: int) -> Tensor:
    return normal((size,), seed=26).sort().values


def levels(shape: tuple[int, ...], relu: bool, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, bool]:
    codes = dense(torch.randint(0, size, shape, generator=generator(27)).to(torch.uint8))
    return codes, table_of(size), channels(shape, 28), channels(shape, 29) * 0.3, relu


def masked(shape: tuple[int, ...]) -> tuple[Any, ...]:
    bits = torch.randint(0, 2, (math.prod(shape),), generator=generator(30)).to(torch.uint8)
    return normal(shape, seed=31), pack_bits(bits, 1)


def gradient(shape: tuple[int, ...], relu: bool) -> tuple[Any, ...]:
    return (normal(shape, seed=32), *view(shape, relu))


def encoded_gradient(shape: tuple[int, ...], relu: bool, key: list[int] | None, bits: int = 8) -> tuple[Any, ...]:
    arguments = gradient(shape, relu)
    low, high = reference.view_gradient_extremes(*arguments)
    return (*arguments, low, high, bits, True, key)


def normalised(shape: tuple[int, ...], count: int) -> tuple[Any, ...]:
    return normal(shape, seed=33), channels(shape, 34), channels(shape, 35, positive=True), table_of(count)


def level_gradient(shape: tuple[int, ...], relu: bool, size: int) -> tuple[Any, ...]:
    three = (channels(shape, 36), channels(shape, 37), channels(shape, 38))
    return (normal(shape, seed=32), *levels(shape, relu, size), *three)


AVERAGED = {
    "float32": lambda: normal((37,), seed=41),
    "float64": lambda: normal((37,), seed=42).double() / 3,
    "far": lambda: normal((37,), seed=43) * 1e30,
    "not-finite": lambda: with_values(normal((37,), seed=44), math.nan, math.inf, -math.inf),
    "beyond-float32": lambda: torch.tensor([1e39, -1e39, 1e-46, 1 / 3], dtype=torch.float64),
    "none": lambda: torch.empty(0),
}


def moved(name: str, weight: float) -> tuple[Any, ...]:
    value = AVERAGED[name]()
    return normal(tuple(value.shape), seed=46), value, weight


SPECIAL = (math.nan, math.inf, 0.0, 1e-300, 1e300)


def norm_vectors(channels: int, rows: int, *, special: bool = False) -> tuple[Any, ...]:
    mean, variance = (normal((channels,), seed=seed).double() / 3 for seed in (47, 48))
    if special:
        mean[: len(SPECIAL)] = variance[: len(SPECIAL)] = torch.tensor(SPECIAL, dtype=torch.float64)
    return mean, variance.abs(), normal((channels,), seed=49), normal((channels,), seed=50), rows, 1e-5


def gradient_vectors(channels: int, rows: int, *, special: bool = False) -> tuple[Any, ...]:
    sums = normal((2, channels), seed=51).double() * rows / 7
    if special:
        sums[:, : len(SPECIAL)] = torch.tensor(SPECIAL, dtype=torch.float64)
    return sums, rows, normal((channels,), seed=52), normal((channels,), seed=53)


def _lines() -> Iterator[Case]:
    for op, build in (("level_line", norm_vectors), ("level_gradient_line", gradient_vectors)):
        for channels, rows in product((1, 16, 37), (1, 2, 1000)):
            yield Case(op, f"{channels}-{rows}", partial(build, channels, rows))
        yield Case(op, "special", partial(build, 16, 77, special=True))
        yield Case(op, "no-rows", partial(build, 5, 0))


def _averages() -> Iterator[Case]:
    for name, weight in product(AVERAGED, (0.0, 0.003, 0.1, math.nextafter(0.5, 0), 0.5, 0.9, 1.0)):
        yield Case("move_average_", f"{name}-{weight!r}", partial(moved, name, weight))


def _statistics() -> Iterator[Case]:
    for label, shape in SHAPES.items():
        rows = math.prod(shape) // shape[1] if shape[1] else shape[0]
        for chunks in [part for part in (1, 2, 4, 16) if rows % part == 0]:
            for name, fill in FILLS.items():
                yield Case("chunk_statistics", f"{label}-{name}-{chunks}", partial(statistics, shape, fill, chunks))
            yield Case("chunk_statistics", f"{label}-few-{chunks}", partial(few_codes, shape, chunks))
        yield Case("moments", label, partial(lambda s: (normal(s, seed=40),), shape), SUMS_TOLERANCE)
        yield Case(
            "moments",
            f"{label}-far-from-0",
            partial(lambda s: (dense(normal(s, seed=40) + 1000),), shape),
            SUMS_TOLERANCE,
        )
        yield Case(
            "moments", f"{label}-constant", partial(lambda s: (dense(torch.full(s, 0.1)),), shape), SUMS_TOLERANCE
        )
    yield Case("moments", "nan", lambda: (with_values(normal((4, 5, 6, 7)), math.nan, math.inf),), SUMS_TOLERANCE)


def _views() -> Iterator[Case]:
    for (label, shape), relu in product(SHAPES.items(), (False, True)):
        name = f"{label}{'-relu' if relu else ''}"
        for points in (False, True):
            yield from _encoded_views(f"{name}{'-at' if points else ''}", shape, relu, points)
        for trunk in ("none", "normal", "not-finite") if math.prod(shape) else ("none", "normal"):
            yield Case("affine_view", f"{name}-{trunk}", partial(finished, shape, relu, trunk))
        yield Case("view_gradient_extremes", name, partial(gradient, shape, relu))
        for rounding, key in KEYS.items():
            yield Case("encode_view_gradient_", f"{name}-{rounding}", partial(encoded_gradient, shape, relu, key))
    for label, shape in SHAPES.items():
        yield Case("apply_mask", label, partial(masked, shape))
        for rounding, key in KEYS.items():
            yield Case("encode_affine_view", f"{label}-min-offset-{rounding}", partial(min_offset_of_view, shape, key))
    shape = SHAPES["4d"]
    for bits, (rounding, key) in product((1, 4, 7), KEYS.items()):
        name = f"{bits}-bits-{rounding}"
        yield Case("encode_affine_view", name, partial(affine_of_view, shape, True, key, True, bits))
        yield Case("encode_view_gradient_", name, partial(encoded_gradient, shape, True, key, bits))


def _encoded_views(name: str, shape: tuple[int, ...], relu: bool, points: bool) -> Iterator[Case]:
    yield Case("view_extremes", name, partial(extremes_of_view, shape, relu, points))
    for rounding, key in KEYS.items():
        yield Case("encode_affine_view", f"{name}-{rounding}", partial(affine_of_view, shape, relu, key, points, 8))
    for (rounding, key), (kind, dtype) in _paired(every=shape == SHAPES["4d"]):
        rule = "nearest" if key is None else "stochastic"
        build = partial(scaled_of_view, shape, relu, kind, rule, key, dtype, points)
        yield Case("encode_scaled_view", f"{name}-{rounding}-{kind}", build)


def _paired(*, every: bool) -> Iterator[tuple[tuple[str, list[int] | None], tuple[str, torch.dtype]]]:
    """Roundings with kinds of scales: each once, or every pair."""
    kinds = (("linear", torch.int16), ("power", torch.int8), ("fixed", torch.int8))
    return product(KEYS.items(), kinds) if every else zip(KEYS.items(), kinds, strict=True)


def joined(shape: tuple[int, ...], dtype: torch.dtype, *, has_g: bool, has_mask: bool) -> tuple[Any, ...]:
    g, mask = masked(shape)
    return integers(shape, dtype, seed=30), number(0.037), g if has_g else None, mask if has_mask else None


def to_rectify(shape: tuple[int, ...], trunk: str, *spoiled: float) -> tuple[Any, ...]:
    """Values around 0, or with ``spoiled`` ones among them."""
    x = normal(shape, seed=26)
    return (with_values(x, *spoiled) if spoiled else x), trunk_of(shape, trunk)


def _rectified() -> Iterator[Case]:
    for (label, shape), trunk in product((SHAPES | {"1d": (1021,), "0d": ()}).items(), ("none", "normal")):
        yield Case("rectify", f"{label}-{trunk}", partial(to_rectify, shape, trunk))
    lost = (math.nan, math.inf, -math.inf, 0.0, -0.0, 2.0**-149, -(2.0**-149))
    for trunk in ("none", "normal", "not-finite"):
        yield Case("rectify", f"awkward-{trunk}", partial(to_rectify, (4, 5, 6, 7), trunk, *lost))
    yield Case("rectify", "nothing-left", lambda: (-normal((4, 5, 6, 7)).abs(), None))
    yield Case("rectify", "cancelled", lambda: (normal((4, 5, 6, 7)), -normal((4, 5, 6, 7))))


def _joined(lost: Tensor) -> Iterator[Case]:
    for (label, shape), dtype in product(SHAPES.items(), (torch.int8, torch.int16)):
        for has_g, has_mask in product((False, True), repeat=2):
            name = f"{label}-{str(dtype).removeprefix('torch.')}{'-g' if has_g else ''}{'-mask' if has_mask else ''}"
            yield Case("join_gradients", name, partial(joined, shape, dtype, has_g=has_g, has_mask=has_mask))
    codes, every, no = integers((2, 5, 4, 3), torch.int8, seed=31), torch.full((15,), 255, dtype=torch.uint8), None
    for name, scale in (("infinite", math.inf), ("nan", math.nan), ("tiny", 2.0**-149)):
        yield Case("join_gradients", f"{name}-scale", lambda scale=scale: (codes, number(scale), lost.clone(), every))
        yield Case("join_gradients", f"{name}-scale-alone", lambda scale=scale: (codes, number(scale), no, ~every))


def _poisoned() -> Iterator[Case]:
    fixed = (number(-1.0), number(1.0), 8, True, None)
    scaled = (number(0.01), "fixed", 1.0, -127.0, 127.0, "nearest", None, torch.int8)
    for relu in (False, True):
        name = "poisoned-relu" if relu else "poisoned"
        for slope, offset in ((math.nan, 0.0), (math.inf, 0.0), (1e38, -math.inf), (-1.0, math.inf), (0.0, math.nan)):
            line = partial(lambda *values: (*poisoned_view(*values), None, None), relu, slope, offset)
            yield Case("view_extremes", f"{name}-{slope}-{offset}", line)
        yield Case("affine_view", name, partial(lambda r: (*poisoned_view(r), None), relu))
        yield Case("encode_affine_view", name, partial(lambda r: (*poisoned_view(r), *fixed, None, None), relu))
        yield Case("encode_scaled_view", name, partial(lambda r: (*poisoned_view(r), *scaled, None, None), relu))
        yield Case(
            "encode_view_gradient_", name, partial(lambda r: (normal((2, 5, 4, 3)), *poisoned_view(r), *fixed), relu)
        )
    lost = with_values(normal((2, 5, 4, 3)), math.nan, math.inf)
    yield Case("view_gradient_extremes", "nan", lambda: (lost.clone(), *view((2, 5, 4, 3), False)))
    yield Case("encode_view_gradient_", "nan", lambda: (lost.clone(), *view((2, 5, 4, 3), False), *fixed))
    yield Case("encode_view_gradient_", "nan-range", partial(nan_range, lost))
    yield from _joined(lost)
    yield from _rectified()
    yield Case("apply_mask", "nan", lambda: (lost.clone(), torch.full((15,), 255, dtype=torch.uint8)))
    yield Case("apply_mask", "masked-nan", lambda: (lost.clone(), torch.zeros(15, dtype=torch.uint8)))
    build = partial(scaled_of_view, SHAPES["4d"], True, "power", "nearest", None, torch.int8, True)
    for name, ranged in with_range(build, 4):
        yield Case("encode_scaled_view", name, ranged)
    for points in (1, 3):
        yield Case("encode_scaled_view", f"nan-at-{points}", partial(nan_point, points))


def nan_range(lost: Tensor) -> tuple[Any, ...]:
    low, high = extremes(lost)
    return (lost.clone(), *view((2, 5, 4, 3), False), low, high, 8, True, None)


def nan_point(points: int) -> tuple[Any, ...]:
    values = torch.full((points,), math.nan)
    at = torch.arange(points) * 7
    return (
        *view((2, 5, 4, 3), False),
        number(0.01),
        "fixed",
        1.0,
        -127.0,
        127.0,
        "nearest",
        None,
        torch.int8,
        at,
        values,
    )


def _levels() -> Iterator[Case]:
    for label, shape in SHAPES.items():
        for size in (2, 16, 256):
            for relu in (False, True):
                name = f"{label}-{size}{'-relu' if relu else ''}"
                for trunk in ("none", "normal"):
                    build = partial(lambda s, r, z, t: (*levels(s, r, z), trunk_of(s, t)), shape, relu, size, trunk)
                    yield Case("level_view", f"{name}-{trunk}", build)
                build = partial(lambda s, r, z: (normal(s, seed=32), *levels(s, r, z)), shape, relu, size)
                yield Case("level_gradient_sums", name, build, SUMS_TOLERANCE)
                yield Case("level_gradient", name, partial(level_gradient, shape, relu, size))
        for count in (1, 15, 255):
            yield Case("encode_normalised_levels", f"{label}-{count}", partial(normalised, shape, count))
    lost = with_values(normal((4, 5, 6, 7)), math.nan, math.inf, -math.inf)
    rest = normalised((4, 5, 6, 7), 15)[1:]
    yield Case("encode_normalised_levels", "not-finite", lambda: (lost.clone(), *rest))
    yield Case("level_gradient", "not-finite", lambda: (lost.clone(), *level_gradient((4, 5, 6, 7), True, 16)[1:]))


PACKED_SHAPES = {"1": (1,), "7": (7,), "1021": (1021,), "4d": (3, 5, 7, 2), "large": (2, 64, 33, 35), "0": (0,)}


def packable(shape: tuple[int, ...], bits: int) -> Tensor:
    return dense(torch.randint(0, 2**bits, shape, generator=generator(50)).to(torch.uint8))


def _packing() -> Iterator[Case]:
    for bits in (1, 2, 3, 4):
        for label, shape in PACKED_SHAPES.items():
            yield Case("pack_bits", f"{label}-{bits}", partial(lambda s, b: (packable(s, b), b), shape, bits))
            build = partial(lambda s, b: (pack_bits(packable(s, b), b), b, list(s)), shape, bits)
            yield Case("unpack_bits", f"{label}-{bits}", build)


POOLS = {
    "2x2": ((2, 5, 6, 8), [2, 2], [2, 2], [0, 0]),
    "2x2-odd": ((2, 5, 7, 9), [2, 2], [2, 2], [0, 0]),
    "3x3-overlap": ((2, 16, 8, 9), [3, 3], [2, 2], [1, 1]),
    "3x3-stride1": ((1, 17, 6, 5), [3, 3], [1, 1], [1, 1]),
    "uneven": ((1, 3, 9, 8), [3, 2], [2, 3], [1, 0]),
    "gaps": ((1, 4, 9, 9), [2, 2], [3, 3], [0, 0]),
    "16x16": ((1, 2, 20, 19), [16, 16], [1, 1], [8, 8]),
    "1x1": ((2, 3, 4, 4), [1, 1], [1, 1], [0, 0]),
    "large": ((4, 64, 33, 31), [3, 3], [2, 2], [1, 1]),
    "no-images": ((0, 3, 5, 5), [2, 2], [2, 2], [0, 0]),
}
POOL_FILLS = ("normal", "equal", "negative-infinity", "not-finite")


def pooled(name: str, fill: str) -> tuple[Any, ...]:
    shape, *geometry = POOLS[name]
    x = normal(shape, seed=51)
    if fill == "equal":
        x = dense((x * 2).round())
    if fill == "negative-infinity":
        x = torch.full_like(x, -math.inf)
    if fill == "not-finite" and x.numel():
        x = with_values(x, *[math.nan, -math.inf, math.inf, math.nan] * 4)
    return (x, *geometry)


def pooled_back(name: str, fill: str) -> tuple[Any, ...]:
    shape, *geometry = POOLS[name]
    y, window = max_pool2d(*pooled(name, fill))
    return normal(y.shape, seed=52), window, list(shape), *geometry


def pooled_view(shape: tuple[int, ...], relu: bool, entries: int | None, kind: str) -> tuple[Any, ...]:
    """entries: of a table, None for codes that are numbers. Of all but ``regular``, every other channel has slopes that
    make values of different codes equal, infinite or NaN, or a table in no order, or in order but for the first two,
    the only ones that occur."""
    codes, slope, offset, _ = view(shape, relu)
    codes = codes if entries in (None, 256) else dense(codes % entries)
    table = None if entries is None else normal((entries,), seed=53)
    if table is not None and kind != "unordered":
        table = table.sort().values
    if table is not None and kind == "first-swapped":
        codes, table[:2] = dense(codes % 2), table[:2].flip(0)
    if kind in POISONED_LINES:
        slope[::2], offset[::2] = POISONED_LINES[kind]
    return codes, table, slope, offset, relu


POISONED_LINES = {
    "flat": (0.0, 0.5), "rounded": (2.0**-27, 1.0), "rounded-down": (-(2.0**-27), 1.0), "nan": (math.nan, 0.0),
    "infinite": (math.inf, 0.0), "falling": (-math.inf, 0.0), "overflowing": (3e38, -math.inf),
}  # fmt: skip
POOLED_VIEWS = ("regular", "unordered", "first-swapped", *POISONED_LINES)


def _pooling() -> Iterator[Case]:
    for name, (shape, *geometry) in POOLS.items():
        for relu, entries in product((False, True), (None, 2, 16, 256)):
            for kind in POOLED_VIEWS if name in ("3x3-overlap", "uneven") else POOLED_VIEWS[:1]:
                build = partial(lambda g, *view: (*pooled_view(*view), *g), geometry, shape, relu, entries, kind)
                yield Case("max_pool2d_view", f"{name}-{entries}-{kind}{'-relu' if relu else ''}", build)
        for fill in POOL_FILLS:
            yield Case("max_pool2d", f"{name}-{fill}", partial(pooled, name, fill))
        for fill in POOL_FILLS[:2]:
            yield Case("max_pool2d_backward", f"{name}-{fill}", partial(pooled_back, name, fill))


CASES = (*_lines(), *_averages(), *_statistics(), *_views(), *_poisoned(), *_levels(), *_packing(), *_pooling())
