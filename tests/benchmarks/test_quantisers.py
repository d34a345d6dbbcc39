"""Quantisers of a float32 tensor against a copy of it, and against what one would otherwise use.

Elements per second, for a tensor that the caches hold and for one that they do not. The yardstick is the copy: it moves
eight bytes per element, a quantiser to 8 bits five.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

import pytest
import torch
from bench_table import Row, Target, is_tiny
from kernel_race import Call, Times, copy_ratio, race, ratio_of
from torch import Tensor

from qbench.kernels import backends, encoding
from qbench.kernels.random import Key

pytestmark = [pytest.mark.benchmark_suite, pytest.mark.usefixtures("steady")]

ROUNDS = 31
SIZES = {"2 M elements": 2**21, "16 M elements": 2**24}
SECTION = "quantisers to 8 bits, elements per second"
HASH, PHILOX, NEAREST, EXTREMES = "stochastic, hash", "stochastic, Philox", "nearest", "extremes"
EAGER, FAKE, QTORCH = "torch eager, stochastic", "torch.fake_quantize", "qtorch, stochastic"

AGAINST_COPY = {
    HASH: Target(0.8, 1.0), PHILOX: Target(0.5, 0.8), NEAREST: Target(0.8, 1.2), EXTREMES: Target(0.8, 2.0),
}  # fmt: skip
AGAINST_OTHERS = {
    (HASH, EAGER): Target(5, 15), (NEAREST, FAKE): Target(2, 8), (HASH, QTORCH): Target(80, 100),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_quantisers(
    size: str,
    benchmark: Any,
    report: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    pytestconfig: pytest.Config,
) -> None:
    tiny = is_tiny(pytestconfig)
    elements = 4096 if tiny else SIZES[size]
    calls = {**ours(elements), **others(elements)}
    times = race(calls, elements, 1 if tiny else ROUNDS)
    with capsys.disabled():
        print(f"\n{size}: G elements per second, and relative to a float32 copy")
        for name, found in times.items():
            print(f"  {name:28} {elements / found.seconds / 1e9:8.3f} {copy_ratio(found)[0]:8.2f}")
    report(*rows(size, times, is_held=not tiny and not backends.why_not("cpp")))
    benchmark.extra_info.update({f"{name}, ms": 1e3 * found.seconds for name, found in times.items()})
    benchmark.pedantic(calls[HASH], rounds=3)


def rows(size: str, times: dict[str, Times], *, is_held: bool) -> Iterator[Row]:
    reason = "" if is_held else "not the full size, or without the C++ kernels"
    for name, target in AGAINST_COPY.items():
        ratio, interval = copy_ratio(times[name])
        yield Row(SECTION, f"{name}, {size}", "copy", target, ratio, interval, reason, is_held)
    for (name, other), target in AGAINST_OTHERS.items():
        if other not in times:  # the others are always there
            yield Row(SECTION, f"{name}, {size}", other, target, reason=qtorch()[1])
            continue
        ratio, interval = ratio_of(times[name], times[other])
        yield Row(SECTION, f"{name}, {size}", other, target, ratio, interval, reason, is_held)


def ours(elements: int) -> dict[str, Call]:
    x = torch.randn(elements)
    low, high = encoding.extremes(x)

    def encoder(key: Key | None) -> Call:
        return lambda: encoding.encode_affine(x, low, high, 8, True, key)

    return {
        HASH: encoder(Key(1, 2, 3, "hash")),
        PHILOX: encoder(Key(1, 2, 3)),
        NEAREST: encoder(None),
        EXTREMES: lambda: encoding.extremes(x),
    }


def others(elements: int) -> dict[str, Call]:
    x = torch.randn(elements)
    scale, zero = 0.05, 128

    def eager() -> Tensor:
        return (x / scale + zero + torch.rand_like(x)).floor_().clamp_(0, 255).to(torch.uint8)

    calls: dict[str, Call] = {
        EAGER: eager,
        FAKE: lambda: torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255),
    }
    if qtorch()[0] is not None:
        quantize = qtorch()[0].fixed_point_quantize
        calls[QTORCH] = lambda: quantize(x, wl=8, fl=4, rounding="stochastic")
    return calls


@cache
def qtorch() -> tuple[Any, str]:
    """QPyTorch's quantisers, which compile when they are imported; None and why where they cannot be."""
    try:
        return import_module("qtorch.quant"), ""
    except Exception as error:
        return None, f"qtorch cannot be imported ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
