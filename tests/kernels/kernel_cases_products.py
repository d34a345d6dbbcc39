"""Inputs that break careless integer products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_matrix import Case, Filling, integers, normal, number
from torch import Tensor

from qbench.kernels.product_checks import is_wide
from qbench.kernels.reference.products import output_size

U8, S8, S16 = torch.uint8, torch.int8, torch.int16


@dataclass(frozen=True)
class Fill:
    """Type, filling and zero point of the two factors."""

    a: torch.dtype
    a_value: Filling
    a_zero: float | None
    b: torch.dtype
    b_value: Filling
    b_zero: float | None

    def __str__(self) -> str:
        return f"{described(self.a, self.a_value, self.a_zero)}_x_{described(self.b, self.b_value, self.b_zero)}"


def described(dtype: torch.dtype, value: Filling, zero_point: float | None) -> str:
    values = (value,) if isinstance(value, int) else value or ()
    filled = "=" * bool(values) + "|".join(map(str, values))
    return str(dtype).removeprefix("torch.") + filled + ("" if zero_point is None else f",z{zero_point:g}")


FILLS = (
    Fill(U8, 255, None, S8, 127, None),
    Fill(U8, 255, None, S8, -127, None),
    Fill(U8, 255, None, S8, -128, None),
    Fill(U8, 255, None, U8, 255, None),
    Fill(U8, 255, 0.0, U8, 255, 0.0),
    Fill(U8, 255, 1.0, S8, -128, None),
    Fill(U8, 0, 255.0, U8, 0, 255.0),
    Fill(U8, 0, 255.0, S8, -128, 127.0),
    Fill(U8, 255, 128.0, U8, 0, 128.0),
    Fill(S8, -128, None, S8, -128, None),
    Fill(S8, -127, None, S8, 127, None),
    Fill(S8, -128, 127.0, U8, 255, 0.0),
    Fill(S8, None, None, S8, None, None),
    Fill(U8, None, None, S8, None, None),
    Fill(U8, None, 0.0, U8, None, 255.0),
    Fill(U8, None, 128.0, S8, None, None),
    Fill(S8, None, 1.0, U8, None, 128.0),
    Fill(S16, -32768, None, S16, -32768, None),
    Fill(S16, 32767, None, S16, -32768, None),
    Fill(S16, -32768, 32767.0, S16, -32768, 32767.0),
    Fill(S16, None, None, U8, None, 3.0),
    Fill(U8, None, 200.0, S16, None, None),
    Fill(S16, None, 1000.0, S8, None, None),
    Fill(S16, None, None, S16, None, None),
    # As large as transforms take in one digit, and one larger: by 10 * 10 and by 2 * 2.
    Fill(S16, 327, None, S8, -128, None),
    Fill(S16, -328, None, S8, None, None),
    Fill(S16, -8191, None, S8, -128, None),
    Fill(S16, 8192, None, S8, None, None),
    Fill(S16, 1400, None, S16, 16256, None),
    Fill(S16, 327, None, S16, -32768, None),
)
RANDOM = (
    Fill(U8, None, 131.0, S8, None, None),
    Fill(S8, None, None, U8, None, 7.0),
    Fill(U8, None, 3.0, S16, None, None),
)


@dataclass(frozen=True)
class Shape:
    """A convolution."""

    label: str
    x: tuple[int, int, int, int]
    filters: int
    taps: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def w(self) -> tuple[int, int, int, int]:
        return (self.filters, self.x[1] // self.groups, *self.taps)

    @property
    def e(self) -> tuple[int, int, int, int]:
        size = output_size(self.x, self.w, self.stride, self.padding, self.dilation)
        return (self.x[0], self.filters, *size)

    @property
    def geometry(self) -> list[Any]:
        return [list(self.stride), list(self.padding), list(self.dilation), self.groups]


BASIC = Shape("3x3", (2, 5, 6, 7), 9, (3, 3), padding=(1, 1))
TILED = Shape("3x3-tiled", (3, 64, 12, 11), 48, (3, 3), padding=(1, 1))
"""Large enough for what is only taken where it pays: whole tiles, transformed 3x3 kernels."""

DEEP = Shape("3x3-deep", (6, 1024, 5, 4), 32, (3, 3), padding=(1, 0))
"""Sums beyond 2^29, which int32 still holds, but not four times them."""

SHAPES = (
    BASIC,
    TILED,
    DEEP,
    Shape("1x1", (2, 7, 5, 3), 11, (1, 1)),
    Shape("1x1-stride2", (2, 8, 5, 6), 4, (1, 1), (2, 2)),
    Shape("1x1-stride3", (1, 3, 8, 7), 5, (1, 1), (3, 3)),
    Shape("1x1-to-one-pixel", (3, 8, 2, 2), 5, (1, 1), (2, 2)),
    Shape("1x1-to-one-row", (3, 5, 2, 4), 6, (1, 1), (2, 2)),
    Shape("1x1-to-one-column", (3, 5, 4, 2), 6, (1, 1), (2, 2)),
    Shape("1x1-row-stride2", (3, 4, 1, 5), 6, (1, 1), (1, 2)),
    Shape("3x3-stride2", (2, 16, 8, 8), 17, (3, 3), (2, 2), (1, 1)),
    Shape("3x3-stride2-odd", (1, 6, 9, 7), 5, (3, 3), (2, 2), (1, 1)),
    Shape("3x3-stride3", (1, 4, 10, 11), 6, (3, 3), (3, 3), (1, 1)),
    Shape("3x3-stride-past-the-end", (2, 5, 6, 7), 4, (3, 3), (6, 9), (0, 1)),
    Shape("3x3-uneven", (2, 3, 9, 8), 4, (3, 3), (2, 1), (1, 2)),
    Shape("3x2", (1, 3, 6, 7), 4, (3, 2), (1, 2), (0, 1)),
    Shape("1x5", (1, 5, 4, 9), 3, (1, 5), (1, 1), (0, 2)),
    Shape("3x3-dilated", (1, 5, 9, 10), 7, (3, 3), (1, 1), (2, 2), (2, 2)),
    Shape("3x3-dilated-uneven", (2, 4, 12, 9), 3, (3, 3), (2, 1), (1, 3), (3, 2)),
    Shape("3x3-no-padding", (1, 3, 3, 3), 2, (3, 3)),
    Shape("5x5", (1, 3, 8, 9), 6, (5, 5), (1, 1), (2, 2)),
    Shape("7x7-stride2", (1, 3, 16, 15), 9, (7, 7), (2, 2), (3, 3)),
    Shape("wide-padding", (1, 2, 3, 4), 3, (2, 2), (1, 1), (3, 3)),
    Shape("pixels-never-read", (1, 3, 8, 8), 4, (1, 1), (4, 4)),
    Shape("groups2", (2, 6, 6, 5), 8, (3, 3), (1, 1), (1, 1), groups=2),
    Shape("groups3-stride2", (1, 9, 7, 7), 6, (3, 3), (2, 2), (1, 1), groups=3),
    Shape("groups-wide", (1, 64, 4, 4), 64, (3, 3), (1, 1), (1, 1), groups=2),
    Shape("groups-many-pixels", (2, 6, 13, 20), 4, (1, 1), groups=2),  # in parts of unequal length
    Shape("depthwise", (2, 13, 7, 6), 13, (3, 3), (1, 1), (1, 1), groups=13),
    Shape("depthwise-stride2", (1, 32, 8, 9), 32, (5, 5), (2, 2), (2, 2), groups=32),
    Shape("depthwise-twice", (1, 5, 6, 6), 10, (3, 3), (1, 1), (1, 1), (1, 1), 5),
    Shape("depthwise-1x2", (2, 3, 6, 8), 3, (1, 2), groups=3),
    Shape("groups3-3x2", (1, 6, 9, 8), 42, (3, 2), padding=(2, 1), groups=3),
    Shape("one-channel", (3, 1, 6, 6), 1, (3, 3), (1, 1), (1, 1)),
    Shape("one-pixel", (2, 33, 1, 1), 31, (1, 1)),
    Shape("whole-image", (2, 4, 5, 6), 3, (5, 6)),
    Shape("channels-16", (1, 16, 5, 5), 16, (3, 3), (1, 1), (1, 1)),
    Shape("channels-33-65", (1, 33, 6, 5), 65, (3, 3), (1, 1), (1, 1)),
    Shape("channels-64", (1, 64, 7, 7), 64, (3, 3), (1, 1), (1, 1)),
    Shape("channels-127-1x1", (1, 127, 9, 9), 129, (1, 1)),
    Shape("stem", (1, 3, 33, 34), 16, (3, 3), (1, 1), (1, 1)),
    Shape("no-images", (0, 3, 5, 5), 4, (3, 3)),
    Shape("no-filters", (1, 3, 5, 5), 0, (3, 3)),
    Shape("no-channels", (1, 0, 5, 5), 4, (3, 3)),
)
LONG = 33_026
"""255 * 255 * 33025 fits int32, one term more does not."""

LONG_SHAPES = (
    Shape("long-channels", (1, LONG, 1, 2), 3, (1, 1)),
    Shape("long-filters", (1, 2, 1, 2), LONG, (1, 1)),
    Shape("long-pixels", (2, 2, 83, 199), 3, (1, 1)),
)
KINDS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
SPECIAL = (math.nan, math.inf, -math.inf, -0.0, 3e38, 1e-42, 0.0)


def zero(value: float | None) -> Tensor | None:
    return None if value is None else number(value)


def factors(fill: Fill, first: tuple[int, ...], second: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    return (
        [integers(first, fill.a, fill.a_value, seed=1), zero(fill.a_zero)],
        [integers(second, fill.b, fill.b_value, seed=2), zero(fill.b_zero)],
    )


def convolution(kind: str, shape: Shape, fill: Fill) -> tuple[Any, ...]:
    """Arguments of a convolution or one of its gradients; int64 sums where the bound asks for them."""
    operands = {
        "conv2d": (shape.x, shape.w),
        "conv2d_input_grad": (shape.e, shape.w),
        "conv2d_weight_grad": (shape.x, shape.e),
    }
    first, second = factors(fill, *operands[kind])
    terms = {
        "conv2d": shape.w[1] * shape.w[2] * shape.w[3],
        "conv2d_input_grad": shape.w[0] // shape.groups * shape.w[2] * shape.w[3],
        "conv2d_weight_grad": shape.e[0] * shape.e[2] * shape.e[3],
    }[kind]
    result = {"conv2d": [], "conv2d_input_grad": [list(shape.x)], "conv2d_weight_grad": [list(shape.w)]}[kind]
    wide = is_wide(terms, *first, *second)
    return (*first, *second, *result, *shape.geometry, wide)


def scaled(
    kind: str, shape: Shape, fill: Fill, *, per_channel: bool = False, poisoned: bool = False
) -> tuple[Any, ...]:
    """Arguments of the scaled form."""
    first_codes, first_zero, second_codes, second_zero, *rest = convolution(kind, shape, fill)[:-1]
    first_scale = number(torch.nan if poisoned else 0.0173)
    second_scale = number(1.37e-3)
    bias: list[Any] = []
    if kind == "conv2d":
        bias = [normal((shape.filters,)) if per_channel else None]
        second_scale = normal((shape.filters,), seed=3).abs() if per_channel else second_scale
    return (first_codes, first_zero, first_scale, second_codes, second_zero, second_scale, *bias, *rest)


def added(shape: Shape, fill: Fill, *, poisoned: bool = False) -> tuple[Any, ...]:
    """Arguments of the input gradient that is added to what is there, special values among it."""
    *factors_and_scales, input_shape, stride, padding, dilation, groups = scaled(
        "conv2d_input_grad", shape, fill, poisoned=poisoned
    )
    total = normal(input_shape, seed=4)
    flat = total.permute(0, 2, 3, 1).flatten()  # of one memory with it
    places = torch.linspace(0, flat.numel() - 1, len(SPECIAL)).long() if flat.numel() else torch.arange(0)
    flat[places] = torch.tensor(SPECIAL)[: len(places)]
    return (total, *factors_and_scales, stride, padding, dilation, groups)


MATRICES = (
    (1, 1, 1), (3, 5, 2), (17, 31, 33), (16, 64, 16), (33, 129, 15), (64, 65, 64), (128, 10, 10), (2, 1000, 3),
    (0, 4, 5), (4, 0, 5), (4, 5, 0),
)  # fmt: skip
LAYOUTS = ("plain", "a_t", "b_t", "both_t", "slices")


def laid_out(x: Tensor, transposed: bool, sliced: bool) -> Tensor:
    if transposed:
        return x.t().contiguous().t()
    if sliced:
        return torch.cat([x, x], dim=1)[:, : x.shape[1]]
    return x


def matmul(size: tuple[int, int, int], fill: Fill, layout: str = "plain") -> tuple[Any, ...]:
    m, k, n = size
    (a, a_zero), (b, b_zero) = factors(fill, (m, k), (k, n))
    a = laid_out(a, layout in ("a_t", "both_t"), layout == "slices")
    b = laid_out(b, layout in ("b_t", "both_t"), layout == "slices")
    return a, a_zero, b, b_zero, is_wide(k, a, a_zero, b, b_zero)


def matmul_scaled(
    size: tuple[int, int, int], fill: Fill, layout: str = "plain", *, per_column: bool = False
) -> tuple[Any, ...]:
    a, a_zero, b, b_zero, _ = matmul(size, fill, layout)
    columns = size[2]
    b_scale = normal((columns,), seed=3).abs() if per_column else number(1.37e-3)
    return a, a_zero, number(0.0173), b, b_zero, b_scale, normal((columns,)) if per_column else None


def _convolutions() -> Iterator[Case]:
    for kind in KINDS:
        for shape in SHAPES:
            for fill in RANDOM:
                yield Case(kind, f"{shape.label}-{fill}", partial(convolution, kind, shape, fill))
            yield Case(f"{kind}_scaled", f"{shape.label}-{RANDOM[0]}", partial(scaled, kind, shape, RANDOM[0]))
        for shape, fill in product((BASIC, TILED, DEEP), FILLS):
            name = f"{shape.label}-{fill}-filled"
            yield Case(kind, name, partial(convolution, kind, shape, fill))
            yield Case(f"{kind}_scaled", name, partial(scaled, kind, shape, fill))
        for shape in LONG_SHAPES:
            for fill in (Fill(U8, 255, None, U8, 255, None), Fill(U8, 0, 255.0, S8, -128, 127.0), *RANDOM):
                yield Case(kind, f"{shape.label}-{fill}", partial(convolution, kind, shape, fill))
                yield Case(f"{kind}_scaled", f"{shape.label}-{fill}", partial(scaled, kind, shape, fill))
        yield Case(f"{kind}_scaled", "poisoned", partial(scaled, kind, BASIC, RANDOM[0], poisoned=True))
    for shape in SHAPES:
        yield Case(
            "conv2d_scaled", f"{shape.label}-per-channel", partial(scaled, "conv2d", shape, RANDOM[1], per_channel=True)
        )


def _added() -> Iterator[Case]:
    op = "add_conv2d_input_grad_"
    for shape, fill in product((*SHAPES, *LONG_SHAPES), RANDOM):
        yield Case(op, f"{shape.label}-{fill}", partial(added, shape, fill))
    for shape, fill in product((BASIC, TILED, DEEP), FILLS):
        yield Case(op, f"{shape.label}-{fill}-filled", partial(added, shape, fill))
    yield Case(op, "poisoned", partial(added, BASIC, RANDOM[0], poisoned=True))


def encoded(
    shape: Shape,
    fill: Fill,
    bits: int = 8,
    whole: bool = True,
    high: float = 6.5,
    *,
    per_channel: bool = False,
    poisoned: bool = False,
) -> tuple[Any, ...]:
    """As ``scaled``, with a range that clips some of the results."""
    arguments = scaled("conv2d", shape, fill, per_channel=per_channel, poisoned=poisoned)
    is_wide = any(isinstance(value, Tensor) and value.dtype == S16 for value in arguments)
    reach = (400.0 if per_channel else 1.0) * (200.0 if is_wide else 1.0)  # scales and codes are that much larger
    return *arguments, number(-4.25 * reach), number(high * reach), bits, whole


def _encoded() -> Iterator[Case]:
    for shape, fill in product((*SHAPES, *LONG_SHAPES), RANDOM):
        per_channel = fill is RANDOM[1]
        build = partial(encoded, shape, fill, per_channel=per_channel)
        yield Case("conv2d_encoded", f"{shape.label}-{fill}", build)
    for shape, (bits, whole) in product((BASIC, TILED, DEEP), ((8, False), (5, True), (1, False))):
        name = f"{shape.label}-{bits}-{'whole' if whole else 'offset'}"
        yield Case("conv2d_encoded", name, partial(encoded, shape, RANDOM[0], bits, whole))
    for high in (math.nan, math.inf, -4.25, 1e-42):
        yield Case("conv2d_encoded", f"range-{high}", partial(encoded, TILED, RANDOM[0], 8, True, high))
    yield Case("conv2d_encoded", "poisoned", partial(encoded, TILED, RANDOM[0], poisoned=True))


def _matrices() -> Iterator[Case]:
    for size in MATRICES:
        label = "x".join(map(str, size))
        for fill in RANDOM:
            yield Case("matmul", f"{label}-{fill}", partial(matmul, size, fill))
        yield Case("matmul_scaled", f"{label}-per-column", partial(matmul_scaled, size, RANDOM[1], per_column=True))
    for layout in LAYOUTS:
        for fill in RANDOM:
            yield Case("matmul", f"{layout}-{fill}", partial(matmul, (19, 37, 23), fill, layout))
            yield Case("matmul_scaled", f"{layout}-{fill}", partial(matmul_scaled, (19, 37, 23), fill, layout))
    for fill in FILLS:
        yield Case("matmul", f"basic-{fill}", partial(matmul, (5, 67, 9), fill))
        yield Case("matmul_scaled", f"basic-{fill}", partial(matmul_scaled, (5, 67, 9), fill))
    for terms in (LONG - 1, LONG, 4 * LONG + 1):
        for fill in (
            Fill(U8, 255, None, U8, 255, None),
            Fill(U8, 0, 255.0, U8, 255, 0.0),
            Fill(S8, -128, None, S8, -128, None),
        ):
            yield Case("matmul", f"K={terms}-{fill}", partial(matmul, (2, terms, 3), fill))
            yield Case("matmul_scaled", f"K={terms}-{fill}", partial(matmul_scaled, (2, terms, 3), fill))


CASES = (*_convolutions(), *_added(), *_encoded(), *_matrices())
