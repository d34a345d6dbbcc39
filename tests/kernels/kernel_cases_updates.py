"""Inputs of the in-place updates on integer grids."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from kernel_cases_encoding import DRAWN, HASH, PHILOX, at_the_draw, with_values
from kernel_matrix import Case, generator, integers, normal, number
from torch import Tensor

from qbench.kernels.checks import dense

SHAPES = {"4d": (8, 5, 3, 3), "2d": (33, 31), "large": (48, 32, 5, 5), "one": (1,), "empty": (0, 3)}
ROUNDINGS: dict[str, tuple[str, list[int] | None]] = {
    "nearest": ("nearest", None),
    "half_up": ("half_up", None),
    "philox": ("stochastic", PHILOX),
    "hash": ("stochastic", HASH),
    "binary": ("binary", None),
    "binary-philox": ("binary_stochastic", PHILOX),
    "binary-hash": ("binary_stochastic", HASH),
}


def weights(shape: tuple[int, ...], dtype: torch.dtype, rounding: str) -> Tensor:
    if rounding.startswith("binary"):
        return integers(shape, torch.int8, seed=61).sign().to(dtype)
    return integers(shape, dtype, seed=61)


def grid(rounding: str, key: list[int] | None, dtype: torch.dtype) -> tuple[Any, ...]:
    """scale, low, high, rounding, key."""
    if rounding.startswith("binary"):
        return 0.07, -1.0, 1.0, rounding, key
    return (2.0**-7 if dtype == torch.int8 else 2.0**-12), -math.inf, math.inf, rounding, key


def sgd(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    rounding: str,
    key: list[int] | None,
    momentum: bool = True,
    nesterov: bool = False,
    first: bool = False,
    bad: bool = False,
) -> tuple[Any, ...]:
    gradient = normal(shape, seed=62)
    if bad:
        gradient = with_values(gradient, math.nan, math.inf, -math.inf)
    settings = (0.013, 5e-4, 0.9, nesterov, first)
    buffer = normal(shape, seed=63) if momentum else None
    return (weights(shape, dtype, rounding), gradient, buffer, *settings, *grid(rounding, key, dtype))


def adam(
    shape: tuple[int, ...], dtype: torch.dtype, rounding: str, key: list[int] | None, step: int = 3, bad: bool = False
) -> tuple[Any, ...]:
    gradient = normal(shape, seed=62)
    if bad:
        gradient = with_values(gradient, math.nan, math.inf, -math.inf)
    m, v = normal(shape, seed=63), normal(shape, seed=64).square()
    if step == 1:
        m, v = torch.zeros_like(m), torch.zeros_like(v)
    settings = (0.01, 0.9, 0.999, 1e-8, step, 1e-4)
    return (weights(shape, dtype, rounding), gradient, m, v, *settings, *grid(rounding, key, dtype))


def far() -> tuple[Any, ...]:
    """Steps of thousands of codes, whose last bits move some weights by a code: square roots have to be the nearest."""
    codes, gradient, m, v, _, *rest = adam((256, 256), torch.int16, "stochastic", PHILOX)
    return codes // 8, gradient, m, v, 2.0, *rest


def at_rest(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """No weight moves, and some stand between the two codes of a binary grid."""
    codes, *rest = arguments
    codes.flatten().copy_(torch.arange(codes.numel()) % 3 - 1)
    return codes, *(value.zero_() if isinstance(value, Tensor) else value for value in rest)


def drawn(key: list[int]) -> tuple[Any, ...]:
    """Steps from code 0 to where the random numbers are."""
    gradient = -at_the_draw(key)
    codes = torch.zeros(gradient.shape, dtype=torch.int8)
    settings = (1.0, 0.0, 0.0, False, False)
    return codes, gradient, None, *settings, 1.0, -math.inf, math.inf, "stochastic", key


def clipped(shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A grid narrower than its type."""
    arguments = list(sgd(shape, torch.int8, "nearest", None))
    arguments[9:11] = [-20.0, 19.0]
    return tuple(arguments)


def row_major() -> tuple[Any, ...]:
    """Four dimensions without channels-last memory: random bits go by the memory."""
    arguments = sgd(SHAPES["4d"], torch.int8, "stochastic", PHILOX)
    return tuple(value.contiguous() if isinstance(value, Tensor) else value for value in arguments)


def momentum(
    shape: tuple[int, ...],
    key: list[int] | None,
    levels: int = 128,
    limit: int = 2**23 - 1,
    lr_code: int = 26,
    *,
    decay: float = 1e-3,
    factor: float = 1.0,
    values: tuple[float, ...] = (),
) -> tuple[Any, ...]:
    gradient = normal(shape, seed=62) * factor
    if values:
        gradient = with_values(gradient, *values)
    weight = dense(torch.randint(-(2**23), 2**23, shape, generator=generator(65)).int())
    accumulator = dense(torch.randint(-700, 701, shape, generator=generator(66)).int())
    return weight, accumulator, number(2.0**-23), gradient, decay, levels, 1, lr_code, limit, key


def shift(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    key: list[int] | None,
    *,
    eta: float = 8.0,
    limit: int | None = None,
    values: tuple[float, ...] = (),
    factor: float = 1.0,
) -> tuple[Any, ...]:
    codes, gradient = integers(shape, dtype, seed=67), normal(shape, seed=68) * factor
    if values:
        gradient = with_values(gradient, *values)
    return codes, number(2.0**-7), gradient, eta, torch.iinfo(dtype).max if limit is None else limit, key


def _shift_cases() -> Iterator[Case]:
    draws = (("nearest", None), ("philox", PHILOX), ("hash", HASH))
    for (label, shape), (name, key), dtype in product(SHAPES.items(), draws, (torch.int8, torch.int16)):
        full = f"{label}-{name}-{str(dtype).removeprefix('torch.')}"
        yield Case("shift_step_", full, partial(shift, shape, dtype, key))
    shape, kind = SHAPES["2d"], torch.int8
    for eta, factor in product((0.5, 1.0, 2.0**20, 2.0**126), (1.0, 0.0, 2.0**-130, 3e37)):
        yield Case("shift_step_", f"{eta:g}-{factor:g}", partial(shift, shape, kind, PHILOX, eta=eta, factor=factor))
    for limit in (0, 1, 100):
        yield Case("shift_step_", f"limit-{limit}", partial(shift, shape, kind, PHILOX, limit=limit))
    yield Case("shift_step_", "long", partial(shift, (70_001,), kind, PHILOX))
    for values in ((math.nan,), (math.inf,), (-math.inf,), (math.inf, -math.inf)):
        label = "-".join(map(str, values))
        yield Case("shift_step_", label, partial(shift, shape, kind, PHILOX, values=values))
        yield Case("poison_", label, partial(scale_and_values, shape, *values))
    for label, shape in SHAPES.items():
        yield Case("poison_", label, partial(scale_and_values, shape))
    yield Case("poison_", "long", partial(scale_and_values, (70_001,), math.inf))


def scale_and_values(shape: tuple[int, ...], *values: float) -> tuple[Tensor, Tensor]:
    x = normal(shape, seed=69)
    return number(2.0**-7), with_values(x, *values) if values else x


def poisoned(shape: tuple[int, ...], decay: float) -> tuple[Any, ...]:
    operands = momentum(shape, PHILOX, decay=decay)
    operands[2].fill_(math.nan)
    return operands


def _momentum_cases(shape: tuple[int, ...]) -> Iterator[Case]:
    for factor, decay in product((0.0, 1.0, 2.0**-130, 3e37), (0.0, 1e-4, 3e38)):
        build = partial(momentum, shape, None, factor=factor, decay=decay)
        yield Case("quantized_momentum_", f"{factor:g}-{decay:g}", build)
    for name, key in (("nearest", None), ("philox", PHILOX)):
        for values in ((math.nan,), (math.inf,), (-math.inf,), (math.inf, -math.inf), (math.nan, math.inf)):
            label = "-".join(map(str, values))
            yield Case("quantized_momentum_", f"{label}-{name}", partial(momentum, shape, key, values=values))
    for decay in (0.0, 1e-3):
        yield Case("quantized_momentum_", f"poisoned-{decay:g}", partial(poisoned, shape, decay))
    yield Case("quantized_momentum_", "limit", partial(momentum, shape, PHILOX, 128, 2**20))
    yield Case("quantized_momentum_", "largest", partial(momentum, shape, PHILOX, 2**24, 2**31 - 1, 511))
    yield Case("quantized_momentum_", "long", partial(momentum, (70_001,), PHILOX))


def _cases() -> Iterator[Case]:
    for label, shape in SHAPES.items():
        for name, (rounding, key) in ROUNDINGS.items():
            for dtype in (torch.int8, torch.int16):
                full = f"{label}-{name}-{str(dtype).removeprefix('torch.')}"
                yield Case("sgd_on_grid_", full, partial(sgd, shape, dtype, rounding, key))
                yield Case("adam_on_grid_", full, partial(adam, shape, dtype, rounding, key))
        for name, key in (("nearest", None), ("philox", PHILOX), ("hash", HASH)):
            yield Case("quantized_momentum_", f"{label}-{name}", partial(momentum, shape, key))
    shape, kind = SHAPES["2d"], torch.int8
    yield Case("sgd_on_grid_", "plain", partial(sgd, shape, kind, "stochastic", PHILOX, False))
    yield Case("sgd_on_grid_", "first", partial(sgd, shape, kind, "stochastic", PHILOX, True, False, True))
    yield Case("sgd_on_grid_", "nesterov", partial(sgd, shape, kind, "stochastic", PHILOX, True, True))
    yield Case("sgd_on_grid_", "nesterov-first", partial(sgd, shape, kind, "nearest", None, True, True, True))
    yield Case("sgd_on_grid_", "clipped", partial(clipped, shape))
    yield Case("sgd_on_grid_", "row-major", row_major)
    yield Case("adam_on_grid_", "first", partial(adam, shape, kind, "stochastic", PHILOX, 1))
    yield Case("sgd_on_grid_", "at-rest", lambda: at_rest(sgd(shape, kind, "binary", None)))
    yield Case("adam_on_grid_", "at-rest", lambda: at_rest(adam(shape, kind, "binary", None)))
    for label, key in DRAWN.items():
        yield Case("sgd_on_grid_", f"at-the-draw-{label}", partial(drawn, key))
    yield Case("adam_on_grid_", "far", far)
    yield Case("adam_on_grid_", "late", partial(adam, shape, kind, "stochastic", PHILOX, 100_000))
    for name, (rounding, key) in ROUNDINGS.items():
        yield Case("sgd_on_grid_", f"not-finite-{name}", partial(sgd, shape, kind, rounding, key, bad=True))
        yield Case("adam_on_grid_", f"not-finite-{name}", partial(adam, shape, kind, rounding, key, bad=True))
    for levels in (1, 2, 100, 128, 2**15):
        yield Case("quantized_momentum_", f"levels-{levels}", partial(momentum, shape, PHILOX, levels))
    yield from _momentum_cases(shape)
    yield from _shift_cases()


CASES = tuple(_cases())
