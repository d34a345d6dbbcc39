"""Convolutions whose sums end just below 2^31 and just beyond it, for pairs of byte types."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from kernel_cases_products import KINDS, S8, U8, Fill, Shape, convolution, scaled
from kernel_matrix import Case

LIMITS = (
    (Fill(S8, -128, None, S8, -128, None), 131_071),
    (Fill(U8, 255, None, S8, -128, None), 65_793),
    (Fill(S8, 127, None, U8, 255, None), 65_793),
    (Fill(U8, 255, None, U8, 255, None), 33_025),
)
"""Codes of large products, and how many products of their types an int32 sum takes at most."""


def one_by_one(kind: str, terms: int) -> Shape:
    """A 1x1 convolution of which the results of ``kind`` are sums of ``terms`` products."""
    if kind == "conv2d":
        return Shape(f"long-1x1-{terms}", (1, terms, 1, 2), 3, (1, 1))
    if kind == "conv2d_input_grad":
        return Shape(f"long-1x1-{terms}", (1, 2, 1, 2), terms, (1, 1))
    return Shape(f"long-1x1-{terms}", (1, 2, 1, terms), 3, (1, 1))


def three_by_three(kind: str, terms: int) -> Shape:
    """The same of a 3x3 convolution, of some results or all; for a multiple of nine."""
    if kind == "conv2d":
        return Shape(f"long-3x3-{terms}", (1, terms // 9, 3, 4), 3, (3, 3))
    if kind == "conv2d_input_grad":
        return Shape(f"long-3x3-{terms}", (1, 2, 5, 5), terms // 9, (3, 3))
    return Shape(f"long-3x3-{terms}", (1, 1, 5, terms // 3 + 2), 2, (3, 3))


def shapes_at(kind: str, limit: int) -> Iterator[Shape]:
    """With as many terms as fit, and with the least number that does not."""
    for terms in (limit, limit + 1):
        yield one_by_one(kind, terms)
    for terms in (limit // 9 * 9, limit // 9 * 9 + 9):
        yield three_by_three(kind, terms)


def _cases() -> Iterator[Case]:
    for kind in KINDS:
        for fill, limit in LIMITS:
            for shape in shapes_at(kind, limit):
                yield Case(kind, f"{shape.label}-{fill}", partial(convolution, kind, shape, fill))
                yield Case(f"{kind}_scaled", f"{shape.label}-{fill}", partial(scaled, kind, shape, fill))


CASES = tuple(_cases())
