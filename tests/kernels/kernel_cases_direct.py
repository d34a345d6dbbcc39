"""Inputs of batch norm on direct grids: many shapes, values at ties and beyond the grid, poisoned and constant rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_cases_encoding import with_values
from kernel_cases_passes import POOLS, SHAPES, SUMS_TOLERANCE
from kernel_matrix import Case, integers, normal, number
from torch import Tensor

from qbench.kernels.checks import dense

UNIT, TOP = 2.0**7, 2.0**15 - 1
GRIDS = [2.0**15, 2.0**24, 2.0**15, 2.0**24, 2.0**7, 2.0**15 - 1]
EPS = 2.0**-15
GRADIENTS: tuple[torch.dtype | None, ...] = (None, torch.int8, torch.int16)
FILLS = ("normal", "ties", "constant", "not-finite", "zeros")


def vector(shape: tuple[int, ...], seed: int) -> Tensor:
    return normal((shape[1],), seed=seed)


def values(shape: tuple[int, ...], fill: str) -> Tensor:
    """ties: every second value lies between two steps of the grid, where mean is 0 and the inverse 1."""
    x = normal(shape, seed=81)
    if fill == "ties":
        x = dense((x * 2 * UNIT).round() / (2 * UNIT))
    if fill == "constant" and shape[1]:
        x[:, 0] = 0.1
    if fill == "zeros":
        x = torch.zeros_like(x)
    return with_values(x, math.nan, math.inf, -math.inf, 3e38) if fill == "not-finite" and x.numel() > 3 else x


def view(shape: tuple[int, ...], relu: bool, fill: str = "normal", top: float = TOP) -> tuple[Any, ...]:
    """About half the values are negative; channels of no scale at all are among them."""
    mean, inverse = vector(shape, 82) * 0.3, vector(shape, 83).abs() + 0.5
    slope, offset = vector(shape, 84) / UNIT, vector(shape, 85) * 0.2
    if fill == "ties":
        mean, inverse = torch.zeros_like(mean), torch.ones_like(inverse)
    if fill == "zeros":
        mean, offset = torch.zeros_like(mean), torch.zeros_like(offset)
    return values(shape, fill), mean, inverse, UNIT, top, slope, offset, relu


def trunk_of(shape: tuple[int, ...], kind: str) -> Tensor | None:
    if kind == "none":
        return None
    trunk = normal(shape, seed=86)
    return with_values(trunk, math.nan, math.inf, -math.inf) if kind == "not-finite" and trunk.numel() > 2 else trunk


def finished(shape: tuple[int, ...], relu: bool, fill: str, trunk: str) -> tuple[Any, ...]:
    return *view(shape, relu, fill), trunk_of(shape, trunk)


def encoded(
    shape: tuple[int, ...], relu: bool, fill: str, dtype: torch.dtype, limit: float, scale: float = 1 / UNIT
) -> tuple[Any, ...]:
    return *view(shape, relu, fill), scale, -limit, limit, dtype


def gradient_of(shape: tuple[int, ...], dtype: torch.dtype | None) -> tuple[Tensor, Tensor | None]:
    if dtype is None:
        return normal(shape, seed=87), None
    return integers(shape, dtype, seed=88), number(2.0**-11)


def sums(shape: tuple[int, ...], relu: bool, dtype: torch.dtype | None, fill: str = "normal") -> tuple[Any, ...]:
    return *gradient_of(shape, dtype), *view(shape, relu, fill)


def gradient(shape: tuple[int, ...], relu: bool, dtype: torch.dtype | None, fill: str = "normal") -> tuple[Any, ...]:
    three = (vector(shape, seed) for seed in (91, 92, 93))
    return *sums(shape, relu, dtype, fill), *three


def line(channels: int, *, special: bool = False) -> tuple[Any, ...]:
    """special: numbers of zero, at ties, beyond the grids, not finite."""
    mean, variance = normal((channels,), seed=94).double(), normal((channels,), seed=95).double().square()
    if special:
        mean[:7] = torch.tensor([0.0, 2.0**-16, 3 * 2.0**-16, 1e9, -1e9, math.nan, math.inf])
        variance[:7] = torch.tensor([0.0, 2.0**-32, 9 * 2.0**-32, 1e20, 1e-90, math.inf, math.nan])
    weight = normal((channels,), seed=96)
    if special:
        weight[8:13] = torch.tensor([1e6, -1e6, 0.5 / UNIT, 1.5 / UNIT, math.nan])
    return mean, variance, weight, normal((channels,), seed=97), GRIDS, UNIT, EPS


def gradient_line(channels: int, rows: int, *, special: bool = False) -> tuple[Any, ...]:
    found = torch.stack([normal((channels,), seed=seed).double() * 100 for seed in (98, 99, 100)])
    inverse, weight, over, shift = (normal((channels,), seed=seed) for seed in (101, 102, 103, 104))
    if special:
        found[:, :3] = torch.tensor([0.0, math.nan, math.inf])
        over[3:5] = torch.tensor([0.0, 1e30])
    return found, rows, UNIT, inverse, weight, over, shift * 1e-5


def _lines() -> Iterator[Case]:
    for channels in (0, 1, 16, 513):
        yield Case("direct_line", f"{channels}", partial(line, channels))
        yield Case("direct_gradient_line", f"{channels}", partial(gradient_line, channels, 1000))
    yield Case("direct_line", "4d-special", partial(line, 16, special=True))
    yield Case("direct_gradient_line", "4d-special", partial(gradient_line, 16, 77, special=True))
    yield Case("direct_gradient_line", "no-rows", partial(gradient_line, 5, 0))


def _views() -> Iterator[Case]:
    for (label, shape), relu in product(SHAPES.items(), (False, True)):
        name = f"{label}{'-relu' if relu else ''}"
        for trunk in ("none", "normal", "not-finite"):
            yield Case("direct_view", f"{name}-{trunk}", partial(finished, shape, relu, "normal", trunk))
        for dtype, limit in ((torch.int8, 127.0), (torch.int16, 32767.0), (torch.int32, 2.0**24)):
            kind = str(dtype).removeprefix("torch.")
            build = partial(encoded, shape, relu, "normal", dtype, limit)
            yield Case("encode_direct_view", f"{name}-{kind}", build)
        for codes in GRADIENTS:
            kind = str(codes).removeprefix("torch.")
            yield Case("direct_gradient_sums", f"{name}-{kind}", partial(sums, shape, relu, codes), SUMS_TOLERANCE)
            yield Case("direct_gradient", f"{name}-{kind}", partial(gradient, shape, relu, codes))


def _fills() -> Iterator[Case]:
    for fill, relu, (label, shape) in product(FILLS[1:], (False, True), list(SHAPES.items())[:2]):
        name = f"{fill}-{label}{'-relu' if relu else ''}"
        yield Case("direct_view", name, partial(finished, shape, relu, fill, "none"))
        yield Case("encode_direct_view", name, partial(encoded, shape, relu, fill, torch.int16, 32767.0))
        yield Case("direct_gradient", name, partial(gradient, shape, relu, None, fill))
        yield Case("direct_gradient_sums", name, partial(sums, shape, relu, torch.int8, fill), SUMS_TOLERANCE)
    for (name, (shape, *geometry)), relu in product(POOLS.items(), (False, True)):
        for fill in FILLS if name in ("3x3-overlap", "uneven") else FILLS[:1]:
            build = partial(lambda g, *given: (*view(*given), *g), geometry, shape, relu, fill)
            yield Case("max_pool2d_direct_view", f"{name}-{fill}{'-relu' if relu else ''}", build)
    shape = SHAPES["4d"]
    yield Case("direct_view", "few-steps", lambda: (*view(shape, True, top=3.0), None))
    yield Case("direct_view", "many-steps", lambda: (*view(shape, True, "not-finite", top=2.0**24), None))
    yield Case("encode_direct_view", "limit-between-codes", partial(encoded, shape, True, "normal", torch.int8, 20.5))
    for scale in (math.inf, 0.37, 2.0**-130):
        build = partial(encoded, shape, False, "normal", torch.int16, 32767.0, scale)
        yield Case("encode_direct_view", f"scale-{scale:g}", build)
    yield Case("encode_direct_view", "many-codes", partial(encoded, shape, True, "normal", torch.int32, 2.0**24, 1e-7))
    yield Case("direct_gradient", "poisoned-scale", poisoned)
    yield Case("direct_gradient", "far-from-0", far_from_zero)


def poisoned() -> tuple[Any, ...]:
    g, _, *rest = gradient(SHAPES["4d"], True, torch.int8)
    return g, number(math.nan), *rest


def far_from_zero() -> tuple[Any, ...]:
    """The gradient of elements that are not there would be its least value."""
    g, scale, x, *rest, a, b, c = gradient((3, 7), True, None)
    return g, scale, x + 1000, *rest, torch.zeros_like(a), torch.zeros_like(b), torch.ones_like(c)


CASES = (*_lines(), *_views(), *_fills())
