"""Statistics of codes as range batch norm meets them: many shapes, ties, constant channels, poisoned scales."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_matrix import Case, integers, normal, number
from torch import Tensor

from qbench.kernels.reference import passes

SHAPES = {
    "4d": (4, 5, 6, 8),
    "2d": (48, 13),
    "one-channel": (2, 1, 8, 8),
    "wide": (2, 513, 4, 4),
    "no-channels": (4, 0),
}
KINDS = ("random", "ties", "constant", "constant-chunk")
CONSTANT = 0.3541


def codes_of(shape: tuple[int, ...], kind: str) -> Tensor:
    codes = integers(shape, torch.uint8, seed=71)
    if kind == "constant":
        codes[:, ::2] = 77
    if kind == "constant-chunk":  # in a channel that varies, so that the gradient is pulled there
        codes[: max(1, shape[0] // 4), ::2] = 77
    return codes & 3 if kind == "ties" else codes


def per_channel(shape: tuple[int, ...], seed: int) -> Tensor:
    return normal((shape[1],), seed=seed)


def rows_of(shape: tuple[int, ...]) -> int:
    return shape[0] * math.prod(shape[2:])


def line(
    shape: tuple[int, ...], kind: str, chunks: int, relu: bool, eps: float = 1e-5, scale: float = 0.0173
) -> tuple[Any, ...]:
    sums, lows, highs, _, _ = passes.chunk_statistics(codes_of(shape, kind), chunks)
    weight, bias = per_channel(shape, 72), per_channel(shape, 73)
    return sums, lows, highs, rows_of(shape), number(scale), number(131.0), weight, bias, CONSTANT, eps, relu


def gradient_line(shape: tuple[int, ...], kind: str, chunks: int, scale: float = 3.1e-4) -> tuple[Any, ...]:
    codes = codes_of(shape, kind)
    _, _, _, low_at, high_at = passes.chunk_statistics(codes, chunks)
    errors = integers(shape, torch.uint8, seed=74)
    e, q = (x.transpose(0, 1).flatten(1).long() for x in (errors, codes))
    sums = torch.stack([e.sum(1), (e * q).sum(1)])
    mean = q.double().mean(1)
    inverse = 1 / (per_channel(shape, 75).double().abs() + 0.1)
    weight = per_channel(shape, 72)
    return (
        sums, rows_of(shape), number(scale), number(120.0), number(0.0173), mean, inverse, weight, CONSTANT, errors,
        low_at, high_at,
    )  # fmt: skip


def _cases() -> Iterator[Case]:
    for (label, shape), kind, chunks in product(SHAPES.items(), KINDS, (1, 4)):
        name = f"{label}-{kind}-{chunks}"
        for relu in (False, True) if shape[1] else ():  # the extremes of no channels are nobody's
            yield Case("range_line", f"{name}{'-relu' if relu else ''}", partial(line, shape, kind, chunks, relu))
        yield Case("range_gradient_line", name, partial(gradient_line, shape, kind, chunks))
    shape = SHAPES["4d"]
    for scale in (math.nan, 2.0**-130, 1e37):
        yield Case("range_line", f"scale-{scale:g}", partial(line, shape, "random", 4, True, scale=scale))
        yield Case("range_gradient_line", f"scale-{scale:g}", partial(gradient_line, shape, "random", 4, scale=scale))
    yield Case("range_line", "no-eps", partial(line, shape, "constant", 4, False, eps=0.0))


CASES = tuple(_cases())
