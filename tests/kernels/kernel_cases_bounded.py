"""Inputs of bounded activations: values at the bounds and next to them, at ties, of every kind of trunk, not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_cases_encoding import with_values
from kernel_cases_passes import SHAPES
from kernel_matrix import Case, integers, normal, number
from torch import Tensor

from qbench.kernels.checks import dense

SCALE, TOP = 2.0**-7, 127.0
LIMIT = TOP * SCALE
INVERSE = 0.25
TRUNKS: tuple[torch.dtype | None, ...] = (None, torch.float32, torch.int8, torch.int16)
JOINED: tuple[torch.dtype | None, ...] = (None, torch.int8, torch.int16)
CODES = {torch.int8: TOP, torch.int16: 32767.0, torch.int32: 2.0**24}
FILLS = ("normal", "edges", "not-finite", "zeros")


def values(shape: tuple[int, ...], fill: str) -> Tensor:
    """edges: every value, times the inverse, is a multiple of half a step, and many lie at 0 and at the limits."""
    y = normal(shape, seed=111) * 3
    if fill == "edges":
        y = dense((y * INVERSE / SCALE * 2).round() * SCALE / 2 / INVERSE)
        chosen = (LIMIT, -LIMIT, 0.0, -0.0, LIMIT + SCALE / 4, -LIMIT - SCALE / 4, 2.0**-140, -(2.0**-140))
        return with_values(y, *(value / INVERSE for value in chosen)) if y.numel() > len(chosen) else y
    if fill == "zeros":
        y = torch.zeros_like(y)
    return with_values(y, math.nan, math.inf, -math.inf, 3e38) if fill == "not-finite" and y.numel() > 3 else y


def beside(shape: tuple[int, ...], dtype: torch.dtype | None, seed: int) -> tuple[Tensor | None, Tensor | None]:
    """What is added, and its scale."""
    if dtype is None:
        return None, None
    if dtype == torch.float32:
        return normal(shape, seed=seed), None
    return integers(shape, dtype, seed=seed), number(SCALE if dtype == torch.int8 else SCALE / 256)


def bounded(
    shape: tuple[int, ...], relu: bool, fill: str = "normal", trunk: torch.dtype | None = None, limit: float = LIMIT
) -> tuple[Any, ...]:
    return values(shape, fill), INVERSE, *beside(shape, trunk, 112), relu, limit


def encoded(
    shape: tuple[int, ...], relu: bool, fill: str = "normal", trunk: torch.dtype | None = None,
    dtype: torch.dtype = torch.int8, scale: float = SCALE,
) -> tuple[Any, ...]:  # fmt: skip
    top = CODES[dtype]
    return *bounded(shape, relu, fill, trunk, LIMIT if dtype == torch.int8 else math.inf), scale, -top, top, dtype


def masks(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Whoever passed was not clipped."""
    count = (math.prod(shape) + 7) // 8
    unclipped = integers((count,), torch.uint8, seed=113)
    return unclipped & integers((count,), torch.uint8, seed=114), unclipped


def error(
    shape: tuple[int, ...], fill: str = "normal", joined: torch.dtype | None = None, dtype: torch.dtype = torch.int8,
    divisor: float = 128.0,
) -> tuple[Any, ...]:  # fmt: skip
    return values(shape, fill), *beside(shape, joined, 115), *masks(shape), divisor, CODES[dtype], dtype


def hidden(value: float, bits: int) -> tuple[Any, ...]:
    """A value that is not finite, at an element that was clipped (bits 0) or masked by the ReLU alone (1)."""
    g, *rest, passed, unclipped, divisor, top, dtype = error((3, 8))
    g[0, 0] = value
    passed[0] &= 0xFE
    unclipped[0] = unclipped[0] & 0xFE | bits
    return g, *rest, passed, unclipped, divisor, top, dtype


def _name(*parts: Any) -> str:
    return "-".join(str(part).removeprefix("torch.") for part in parts if part != "")


def _shapes() -> Iterator[Case]:
    for (label, shape), relu, trunk in product(SHAPES.items(), (False, True), TRUNKS):
        name = _name(label, "relu" if relu else "", trunk)
        yield Case("bounded_values", name, partial(bounded, shape, relu, "normal", trunk))
        for dtype in CODES:
            build = partial(encoded, shape, relu, "normal", trunk, dtype)
            yield Case("encode_bounded", _name(name, dtype), build)
    for (label, shape), joined, dtype in product(SHAPES.items(), JOINED, CODES):
        build = partial(error, shape, "normal", joined, dtype)
        yield Case("encode_bounded_error", _name(label, joined, dtype), build)


def _fills() -> Iterator[Case]:
    for fill, (label, shape) in product(FILLS[1:], list(SHAPES.items())[:2]):
        for relu, trunk in product((False, True), (None, torch.int8)):
            name = _name(fill, label, "relu" if relu else "", trunk)
            yield Case("bounded_values", name, partial(bounded, shape, relu, fill, trunk))
            yield Case("encode_bounded", name, partial(encoded, shape, relu, fill, trunk))
        for joined in JOINED:
            yield Case("encode_bounded_error", _name(fill, label, joined), partial(error, shape, fill, joined))
    shape = SHAPES["4d"]
    for relu in (False, True):
        yield Case("bounded_values", _name("no-limit", relu), partial(bounded, shape, relu, "edges", None, math.inf))
        for scale in (math.inf, 0.37, 2.0**-130):
            build = partial(encoded, shape, relu, "edges", None, torch.int8, scale)
            yield Case("encode_bounded", _name("scale", scale, relu), build)
    yield Case("encode_bounded", "trunk-poisoned", poisoned)
    for value, bits in product((math.nan, math.inf), (0, 1)):
        yield Case("encode_bounded_error", _name("hidden", value, bits), partial(hidden, value, bits))
    yield Case("encode_bounded_error", "one-bit", partial(error, shape, divisor=1.0))
    yield Case("encode_bounded_error", "subnormal-scale", partial(error, shape, divisor=2.0**126))


def poisoned() -> tuple[Any, ...]:
    y, inverse, trunk, _, *rest = encoded(SHAPES["4d"], True, trunk=torch.int8)
    return y, inverse, trunk, number(math.nan), *rest


CASES = (*_shapes(), *_fills())
