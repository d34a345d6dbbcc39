"""Inputs that break careless encoders, for every encoder, rounding and generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_matrix import Case, generator, integers, normal, number
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.random import FRACTION_BITS, Key, random_words
from qbench.kernels.reference.encode import extremes

PHILOX = Key(0xFFFFFFFF, 0x12345678, 7).words()
HASH = Key(0xFFFFFFFF, 0x12345678, 7, "hash").words()
DRAWN = {"philox": PHILOX, "hash": HASH}
KEYS = {"nearest": None, **DRAWN}


def halves() -> Tensor:
    """Ties, and the floats next to them."""
    ties = torch.arange(-40, 41) * 0.5
    return torch.cat([ties, ties.nextafter(number(math.inf)), ties.nextafter(number(-math.inf))])


def at_the_draw(key: list[int], count: int = 1021) -> Tensor:
    """Fractions that equal the random number their element is rounded with, and the floats next to them."""
    words = random_words(count, Key.of(key), torch.device("cpu")) >> (32 - FRACTION_BITS)
    draws = words.float() * 2.0**-FRACTION_BITS
    neighbours = torch.stack([draws, draws.nextafter(number(math.inf)), draws.nextafter(number(-math.inf))])
    return neighbours.gather(0, torch.arange(count)[None] % 3)[0]


def with_values(x: Tensor, *values: float) -> Tensor:
    """``x``, of at least one element, with some replaced, near both ends and in the middle."""
    flat = x.permute(0, 2, 3, 1).reshape(-1) if x.dim() == 4 else x.reshape(-1)
    places = torch.linspace(1, flat.numel() - 2, len(values)).long().clamp(0, flat.numel() - 1)
    flat[places] = torch.tensor(values)
    return (
        dense(flat.view(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2))
        if x.dim() == 4
        else flat.view(x.shape)
    )


INPUTS: dict[str, Callable[[], Tensor]] = {
    "normal-4d": lambda: normal((3, 5, 7, 6)),
    "normal-2d": lambda: normal((37, 29), seed=1),
    "normal-1d": lambda: normal((1021,), seed=2),
    "large": lambda: normal((2, 17, 41, 43), seed=3),
    "ties": halves,
    "all-positive": lambda: normal((133,), seed=4).abs() + 1,
    "all-negative": lambda: -normal((133,), seed=4).abs() - 1,
    "zeros": lambda: dense(torch.zeros(2, 3, 5, 5)),
    "negative-zeros": lambda: -torch.zeros(19),
    "constant": lambda: torch.full((77,), 0.7),
    "one-element": lambda: number(-1.3).view(1),
    "no-dimensions": lambda: number(2.6),
    "empty": lambda: torch.zeros(0),
    "empty-4d": lambda: dense(torch.zeros(2, 0, 3, 3)),
    "subnormal": lambda: normal((65,), seed=5) * 2.0**-140,
    "tiny": lambda: normal((65,), seed=6) * 2.0**-120,
    "huge": lambda: torch.cat([normal((65,), seed=7) * 1e38, number(3.4e38).view(1), number(-3.4e38).view(1)]),
    "nan": lambda: with_values(normal((2, 5, 4, 3), seed=8), math.nan, math.nan),
    "all-nan": lambda: torch.full((37,), math.nan),
    "infinity": lambda: with_values(normal((99,), seed=9), math.inf),
    "both-infinities": lambda: with_values(normal((99,), seed=9), math.inf, -math.inf),
    "nan-and-infinity": lambda: with_values(normal((99,), seed=9), math.nan, -math.inf),
}
"""As for a format whose range comes from the data; the same inputs meet fixed ranges too."""


def magnitude_of(x: Tensor) -> Tensor:
    return extremes(x).abs().max()


def affine(name: str, bits: int, integer_zero_point: bool, key: list[int] | None) -> tuple[Any, ...]:
    x = INPUTS[name]()
    low, high = extremes(x)
    return x, low, high, bits, integer_zero_point, key


def affine_fixed(name: str, low: float, high: float, key: list[int] | None) -> tuple[Any, ...]:
    return INPUTS[name](), number(low), number(high), 8, True, key


def scaled_ties(scale: float) -> tuple[Any, ...]:
    """Quotients that are ties, or next to one: a product with the reciprocal would not be."""
    return torch.arange(-255, 256) * 0.5 * scale, number(scale), "fixed", 1.0, -128.0, 127.0, "nearest", None, I8


def scaled(
    name: str,
    magnitude: float | None,
    kind: str,
    divisor: float,
    low: float,
    high: float,
    rounding: str,
    key: list[int] | None,
    dtype: torch.dtype,
) -> tuple[Any, ...]:
    x = INPUTS[name]()
    given = magnitude_of(x) if magnitude is None else number(magnitude)
    return x, given, kind, divisor, low, high, rounding, key, dtype


def _affine_cases() -> Iterator[Case]:
    for name in INPUTS:
        for label, key in KEYS.items():
            for integer_zero_point in (True, False):
                scheme = "zero_point" if integer_zero_point else "min_offset"
                yield Case(
                    "encode_affine", f"{name}-{label}-{scheme}", partial(affine, name, 8, integer_zero_point, key)
                )
            yield Case("encode_affine", f"{name}-{label}-fixed", partial(affine_fixed, name, -0.9, 1.1, key))
    for bits in (1, 2, 4, 7, 9, 12, 16, 24):
        for label, key in KEYS.items():
            yield Case("encode_affine", f"{bits}-bits-{label}", partial(affine, "large", bits, True, key))
    for low, high in (
        (0.0, 1.0),
        (0.5, 1.0),
        (-2.0, -1.0),
        (0.0, 0.0),
        (math.nan, 1.0),
        (-math.inf, 1.0),
        (-3e38, 3e38),
    ):
        yield Case("encode_affine", f"range-{low:g}-{high:g}", partial(affine_fixed, "normal-4d", low, high, None))


SCALED_RULES = {
    "nearest": ("nearest", None),
    "half_up": ("half_up", None),
    "philox": ("stochastic", PHILOX),
    "hash": ("stochastic", HASH),
}
I8, I16, I32 = torch.int8, torch.int16, torch.int32
LIMITS = (
    (I8, -math.inf, math.inf), (I8, -200.0, 200.0), (I8, 0.0, 5.0), (I16, -128.0, 128.0), (I16, -1e6, 1e6),
    (I32, -math.inf, math.inf), (I32, -(2.0**20), 2.0**20), (I32, -3e9, 3e9),
)  # fmt: skip
"""Clips inside and outside of what the type holds."""

ROOT = float(number(2.0**0.5))
MAGNITUDES = (
    0.0, 1.0, 1.5, ROOT, ROOT * (1 - 2**-23), ROOT * (1 + 2**-23), 2.0**127, 3.4e38, 2.0**-126, 2.0**-127, 2.0**-149,
    3 * 2.0**-149, 6e-39, math.inf, math.nan,
)  # fmt: skip
"""Around the half-way point between two powers of two, and around the ends of float32."""
RANGES = (
    (-3.0, 2.0), (-2.0, 3.0), (0.5, 3.0), (-3.0, -0.5), (-0.0, 0.0), (math.nan, 1.0), (-1.0, math.nan),
    (-math.inf, 1.0), (-1.0, math.inf), (-3.4e38, 3.4e38),
)  # fmt: skip
"""Either end is larger, of either sign, or says that something is not finite."""


def with_range(build: Callable[[], tuple[Any, ...]], place: int) -> Iterator[tuple[str, Callable[[], tuple[Any, ...]]]]:
    """Names and operands: those of ``build`` with a range in place of the magnitude."""

    def ranged(range_: tuple[float, float]) -> tuple[Any, ...]:
        operands = build()
        return *operands[:place], torch.tensor(range_), *operands[place + 1 :]

    for range_ in RANGES:
        yield f"range-{range_[0]:g}-{range_[1]:g}", partial(ranged, range_)


def _scaled_cases() -> Iterator[Case]:
    for name, (label, (rounding, key)) in product(INPUTS, SCALED_RULES.items()):
        for kind, divisor, top in (("linear", 127.0, 127.0), ("power", 128.0, 127.0)):
            build = partial(scaled, name, None, kind, divisor, -top, top, rounding, key, I8)
            yield Case("encode_scaled", f"{name}-{label}-{kind}", build)
        build = partial(scaled, name, 2.0**-7, "fixed", 1.0, -math.inf, math.inf, rounding, key, I16)
        yield Case("encode_scaled", f"{name}-{label}-fixed", build)
        if label == "nearest":
            build = partial(scaled, name, 1.0, "fixed", 1.0, -10.0, 9.0, "nearest", None, I8)
            yield Case("encode_scaled", f"{name}-unit", build)
    for (dtype, low, high), (label, (rounding, key)), unit in product(LIMITS, SCALED_RULES.items(), (1e-7, 1e-2)):
        name = f"{str(dtype).removeprefix('torch.')}-{low:g}-{high:g}-{label}-{unit:g}"
        yield Case("encode_scaled", name, partial(scaled, "large", unit, "fixed", 1.0, low, high, rounding, key, dtype))
    for magnitude, kind in product(MAGNITUDES, ("fixed", "linear", "power")):
        if magnitude == 0 and kind == "fixed":
            continue  # a fixed grid of unit 0 is nobody's
        build = partial(scaled, "normal-2d", magnitude, kind, 100.0, -127.0, 127.0, "nearest", None, I8)
        yield Case("encode_scaled", f"{kind}-of-{magnitude:.9g}", build)
    for bits, name in product((2, 4, 8), INPUTS):
        yield Case("encode_flag", f"{name}-{bits}", partial(flagged, name, bits))
    # With 1 bit the two grids differ at the border itself.
    yield Case("encode_flag", "ties-1", partial(flagged, "ties", 1))


def _range_cases() -> Iterator[Case]:
    for name, build in with_range(partial(flagged, "normal-2d", 8), 1):
        yield Case("encode_flag", name, build)
    for scale in (7.0, 0.3, 1e-30):
        yield Case("encode_scaled", f"ties-of-{scale}", partial(scaled_ties, scale))
    for label, key in KEYS.items():
        rounding = "nearest" if key is None else "stochastic"
        build = partial(scaled, "normal-2d", None, "linear", 20.0, -7.5, 11.25, rounding, key, I8)
        yield Case("encode_scaled", f"fractional-bounds-{label}", build)
    for kind in ("linear", "power"):
        build = partial(scaled, "normal-2d", None, kind, 100.0, -127.0, 127.0, "nearest", None, I8)
        for name, ranged in with_range(build, 1):
            yield Case("encode_scaled", f"{kind}-{name}", ranged)


def _drawn_cases() -> Iterator[Case]:
    """Every scale is 1, so that the fractions are those of the input."""
    one = number(1.0)
    grid = ("fixed", 1.0, -math.inf, math.inf, "stochastic")
    for label, key in DRAWN.items():
        for op, build in {
            "encode_affine": lambda k: (at_the_draw(k), number(0.0), number(256.0), 8, True, k),
            "encode_scaled": lambda k: (at_the_draw(k), one, *grid, k, I8),
            "encode_binary": lambda k: (2 * at_the_draw(k) - 1, one, k),
        }.items():
            yield Case(op, f"at-the-draw-{label}", partial(build, key))


def _rounded_cases() -> Iterator[Case]:
    """The same inputs as the codes are made of."""
    for case in (*_scaled_cases(), *_drawn_cases(), *_range_cases()):
        if case.op == "encode_scaled":
            yield replace(case, op="round_scaled")


def flagged(name: str, bits: int) -> tuple[Any, ...]:
    x = INPUTS[name]()
    return x, magnitude_of(x), bits


def _other_cases() -> Iterator[Case]:
    for name in INPUTS:
        yield Case("extremes", name, partial(lambda n: (INPUTS[n](),), name))
        for label, key in KEYS.items():
            yield Case(
                "encode_binary", f"{name}-{label}", partial(lambda n, k: (INPUTS[n](), number(0.8), k), name, key)
            )
        for count in (1, 3, 15, 16, 255):
            yield Case("encode_levels", f"{name}-{count}", partial(levels, name, count))
    yield Case("encode_binary", "poisoned", lambda: (INPUTS["large"](), number(math.nan), None))
    for at in range(67):
        yield Case("extremes", f"nan-at-{at}", partial(lambda i: (one_nan(i),), at))
    for dtype in (torch.uint8, I8, I16, I32):
        name = str(dtype).removeprefix("torch.")
        for shape in ((2, 5, 7, 3), (1021,), (3, 9001), (0,), ()):
            for label, zero in (("none", None), ("integer", 128.0), ("fraction", 0.3)):
                build = partial(decoded, shape, dtype, zero)
                yield Case("decode", f"{name}-{'x'.join(map(str, shape))}-{label}", build)
        yield Case(
            "decode", f"{name}-poisoned", partial(lambda d: (small((9,), d), number(math.nan), number(0.0)), dtype)
        )
    for size in (1, 2, 16, 256):
        for shape in ((2, 5, 7, 3), (1021,), (3, 9001), (0,)):
            yield Case("look_up", f"{size}-{'x'.join(map(str, shape))}", partial(looked_up, shape, size))


CHANNELS = {
    "weights": (7, 5, 3, 3), "one-tap": (17, 64, 1, 1), "rows": (10, 131), "single": (37,), "long": (3, 40, 9, 9),
    "wide": (65, 33), "none": (0, 5), "empty": (4, 0, 3, 3),
}  # fmt: skip
"""Weights whose channels begin and end anywhere among vectors and blocks of random words."""


def of_channels(shape: tuple[int, ...], top: int, key: list[int] | None, dtype: torch.dtype) -> tuple[Any, ...]:
    """Channels of very different ranges."""
    x = normal(shape, seed=13)
    return x * torch.logspace(-3, 3, len(x)).view(-1, *[1] * (x.dim() - 1)), top, key, dtype


def awkward_channels(key: list[int] | None) -> tuple[Any, ...]:
    x = normal((12, 5, 3, 3), seed=14)
    x[0], x[1], x[2, 1, 1, 1], x[3, 0, 0, 0], x[4, 4, 2, 2] = 0.0, math.nan, math.nan, math.inf, -math.inf
    x[5], x[6], x[7] = x[5] * 2.0**-140, x[6] * 1e38, x[7].abs()
    x[8], x[9], x[10, 0, 0, 0] = -x[8].abs(), -0.0, 3.4e38
    return x, 127, key, I8


def _channel_cases() -> Iterator[Case]:
    for (label, shape), (rule, key) in product(CHANNELS.items(), KEYS.items()):
        for top, dtype in ((127, I8), (1, I8), (32767, I16), (2**19, I32)):
            build = partial(of_channels, shape, top, key, dtype)
            yield Case("encode_channels", f"{label}-{rule}-{top}", build)
    for rule, key in KEYS.items():
        yield Case("encode_channels", f"awkward-{rule}", partial(awkward_channels, key))
    for (label, shape), dtype in product(CHANNELS.items(), (I8, I16, I32)):
        name = f"{label}-{str(dtype).removeprefix('torch.')}"
        yield Case("decode_channels", name, partial(coded_channels, shape, dtype))


def coded_channels(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """One scale is NaN, as a poisoned channel's."""
    scale = normal((*shape[:1], *[1] * (len(shape) - 1)), seed=15)
    scale[2:3] = math.nan
    return small(shape, dtype), scale


def one_nan(at: int) -> Tensor:
    x = normal((67,), seed=10)
    x[at] = math.nan
    return x


def small(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Random codes that float32 holds."""
    return integers(shape, dtype) if dtype != I32 else integers(shape, dtype) >> 8


def decoded(shape: tuple[int, ...], dtype: torch.dtype, zero: float | None) -> tuple[Any, ...]:
    return small(shape, dtype), number(0.0173), None if zero is None else number(zero)


def looked_up(shape: tuple[int, ...], size: int) -> tuple[Any, ...]:
    codes = torch.randint(0, size, shape, generator=generator()).to(torch.uint8)
    return dense(codes), normal((size,), seed=11)


def levels(name: str, count: int) -> tuple[Any, ...]:
    """Thresholds of which some are elements of the input."""
    x = INPUTS[name]()
    thresholds = normal((count,), seed=12)
    finite = x[x.isfinite()].flatten()[: count // 2]
    thresholds[: finite.numel()] = finite
    return x, thresholds.sort().values


CASES = (
    *_affine_cases(), *_scaled_cases(), *_range_cases(), *_drawn_cases(), *_rounded_cases(), *_channel_cases(),
    *_other_cases(),
)  # fmt: skip
