"""Weight gradients whose error is a line of codes: extremes in corners and at one place, lines that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_cases_products import BASIC, DEEP, LONG_SHAPES, SHAPES, TILED, U8, Fill, Shape, factors
from kernel_matrix import Case, generator, integers, normal, number
from torch import Tensor

OP = "conv2d_weight_grad_line"
MANY_IMAGES = Shape("many-images", (300, 3, 1, 2), 4, (1, 2), padding=(0, 1))
"""16 bits add up 257 codes."""

FILLS = (
    Fill(U8, None, None, U8, None, None),
    Fill(U8, None, 131.0, U8, None, None),
    Fill(U8, 255, None, U8, 255, None),
    Fill(U8, 255, 0.0, U8, 0, None),
    Fill(U8, 0, 255.0, U8, 255, None),
    Fill(U8, (0, 255), 255.0, U8, (0, 255), None),
)
"""Errors have no zero point: it is in the line."""


def extremes(shape: Shape, chunks: int, seed: int = 5) -> Tensor:
    """An element of each chunk and filter twice, the same one in some, corners of images among them."""
    n, filters, height, width = shape.e
    rows = n * height * width
    if not rows * filters:
        return torch.zeros(0, dtype=torch.int64)
    size = rows // chunks
    drawn = torch.randint(0, size, (2, chunks, filters), generator=generator(seed))
    drawn[0, 0, ::2], drawn[1, -1, ::3] = 0, size - 1
    drawn[1, :, ::4] = drawn[0, :, ::4]
    places = (drawn + size * torch.arange(chunks).view(-1, 1)) * filters + torch.arange(filters)
    return places.flatten()


def line(
    shape: Shape, fill: Fill, chunks: int = 1, *, scale: float = 0.0173, slope: float = 1.0, pull: float | None = None
) -> tuple[Any, ...]:
    """slope: what those of the filters are multiplied by. pull: of every third filter."""
    (x, x_zero), (e, _) = factors(fill, shape.x, shape.e)
    slopes, means = normal((shape.filters,), seed=3) * slope, 128 + 64 * normal((shape.filters,), seed=4).double()
    pulls = normal((shape.filters,), seed=6, scale=40.0)
    if pull is not None:
        pulls[::3] = pull
    return x, x_zero, number(scale), e, slopes, means, pulls, extremes(shape, chunks), list(shape.w), *shape.geometry


def without_extremes(shape: Shape) -> tuple[Any, ...]:
    x, x_zero, x_scale, e, slope, mean, pull, at, *rest = line(shape, FILLS[1])
    return x, x_zero, x_scale, e, slope, mean, pull, at[:0], *rest


def cancelling() -> tuple[Any, ...]:
    """What float64's roundings leave is the first channel's gradient: of every second filter those of sum and mean,
    which cancel, of the others those of both and the pull."""
    filters, size = 24, 181
    # Bright pixels and large codes make sums of 31 bits.
    x, e = (127 + integers((1, channels, size, size), U8, seed=seed) // 2 for seed, channels in enumerate((2, filters)))
    pixels, errors = x[0, 0].flatten().double(), e[0].flatten(1).double()
    each, last = torch.arange(filters), e.numel() - filters
    slope, sums, met, pulled = normal((filters,)), errors @ pixels, pixels.sum(), pixels[-1] - pixels[0]
    pull = -16 * slope * (each % 2)
    mean = (sums - 16 * (each % 2) * pulled) / met
    at = torch.cat([each, last + each])
    return x, None, number(1.0), e, slope, mean, pull, at, [filters, 2, 1, 1], [1, 1], [0, 0], [1, 1], 1


def _chunks(shape: Shape) -> int:
    return 2 if shape.e[0] % 2 == 0 and shape.e[0] else 1


def _cases() -> Iterator[Case]:
    for shape, fill in product((*SHAPES, *LONG_SHAPES), FILLS[:2]):
        yield Case(OP, f"{shape.label}-{fill}", partial(line, shape, fill, _chunks(shape)))
    for shape, fill in product((BASIC, TILED, DEEP, *LONG_SHAPES[2:]), FILLS[2:]):
        yield Case(OP, f"{shape.label}-{fill}-filled", partial(line, shape, fill, _chunks(shape)))
    yield Case(OP, "many-chunks", partial(line, TILED, FILLS[1], 36))
    yield Case(OP, "more-chunks-than-16-bits-take", partial(line, TILED, FILLS[2], 198))
    yield Case(OP, MANY_IMAGES.label, partial(line, MANY_IMAGES, FILLS[2], 2))
    yield Case(OP, "cancelling", cancelling)
    yield Case(OP, "no-extremes", partial(without_extremes, BASIC))
    yield Case(OP, "poisoned", partial(line, BASIC, FILLS[1], scale=math.nan))
    for pull in (math.nan, math.inf, 3e38, 1e-42, 0.0):
        yield Case(OP, f"pull-{pull:g}", partial(line, BASIC, FILLS[1], 2, pull=pull))
    for slope in (math.nan, math.inf, 1e36, 1e-40, 0.0):
        yield Case(OP, f"slope-{slope:g}", partial(line, TILED, FILLS[0], slope=slope))


CASES = tuple(_cases())
