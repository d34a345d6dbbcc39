"""Range batch norm's scale C(n) * range over the standard deviation, for Gaussian values (Banner et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from scipy.integrate import quad
from scipy.special import ndtr
from torch import Tensor, nn

from qbench.nn.clock import Clock
from qbench.nn.norms.range import RangeBatchNorm
from qbench.nn.norms.range import range_constant as constant_of
from qbench.options import PositiveInt
from qbench.recipe import RangeNorm
from qbench.theory.findings import (
    Answer,
    Estimate,
    Findings,
    Panel,
    Picture,
    Series,
    bounded,
    equals,
    estimate,
    with_known,
)
from qbench.theory.progress import Progress, tracked

Constant = Literal["paper", "code", "exact"]
Count = Annotated[int, Ge(4)]

CONSTANTS: tuple[Constant, ...] = ("paper", "code", "exact")
LOWER, UPPER = "Banner et al. 2018, Eq. 4: C(n) range >= 0.325 s", "Banner et al. 2018, Eq. 4: C(n) range <= 2 s"
SPREAD = "sd[range] / E[range] / sqrt(chunks), by quadrature, extremes taken for independent"

_EARLIER = {
    16: 3.541, 64: 4.689, 256: 5.654, 784: 6.343, 3136: 7.104, 12544: 7.812, 50176: 8.482, 200704: 9.058
}  # fmt: skip
"""E[range] from a Monte Carlo made before; where it is off by more than its last digit the rows say so."""

_FEWEST_CHANNELS, _MOST_CHANNELS = 32, 8192
_MOST_VALUES = 4_000_000
"""Values held at a time: more channels are drawn in turns."""


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of the range of n values of N(0, 1)."""

    mean: float
    deviation: float


def range_constant(
    *,
    seed: int,
    progress: Progress,
    counts: tuple[Count, ...] = (16, 64, 256, 784, 3136, 12544, 50176, 200704),
    values: Annotated[int, Ge(100_000)] = 8_000_000,
    chunked_count: Annotated[int, Ge(256)] = 3136,
    chunks: tuple[PositiveInt, ...] = (1, 4, 16),
) -> Findings:
    """Range batch norm's scale over the standard deviation of Gaussian values.

    counts: values per channel. values: how many are drawn for each count; each channel gives one range, and there are
    32 to 8192 channels. chunked_count: values per channel where the range is the mean over chunks of them.
    """
    cases = [(constant, count, 1) for constant in CONSTANTS for count in counts]
    cases += [("code", chunked_count, k) for k in chunks]
    scales = {case: _scales(*case, values, seed) for case in tracked(list(dict.fromkeys(cases)), len(cases), progress)}
    answers = [_mean_answer(constant, count, scales[constant, count, 1]) for constant in CONSTANTS for count in counts]
    answers += _bounds({count: estimate(scales["paper", count, 1].tolist()) for count in counts})
    for k in chunks:
        answers += _chunk_answers(chunked_count, k, scales["code", chunked_count, k])
    return Findings(answers=tuple(answers), pictures=(_picture(counts, chunked_count, chunks, answers),))


def _scales(constant: Constant, count: int, chunks: int, values: int, seed: int) -> Tensor:
    """What range batch norm divides each channel of Gaussian values by [channels]."""
    spec = RangeNorm(constant, chunks)
    generator = torch.Generator().manual_seed(seed + count)
    channels = min(max(values // count, _FEWEST_CHANNELS), _MOST_CHANNELS)
    at_once = max(min(channels, _MOST_VALUES // count), 1)
    found = []
    for start in range(0, channels, at_once):
        width = min(at_once, channels - start)
        norm = RangeBatchNorm(nn.BatchNorm1d(width), spec, "norm", Clock())
        _, inverse, *_ = norm.statistics(torch.randn(count, width, generator=generator))
        found.append(1 / inverse.double() - spec.eps)
    return torch.cat(found)


@cache
def moments(count: int) -> Moments:
    """By quadrature: E[range] = 2 E[max], and Var[range] = 2 Var[max] where the extremes are independent."""
    mean = _integral(lambda x: 1 - ndtr(x) ** count) - _integral(lambda x: ndtr(-x) ** count)
    square = _integral(lambda x: 2 * x * (1 - ndtr(x) ** count)) + _integral(lambda x: 2 * x * ndtr(-x) ** count)
    return Moments(2 * mean, math.sqrt(2 * (square - mean**2)))


def _integral(density: Callable[[float], float]) -> float:
    """From 0 to where nothing is left, with the bend of the largest value's distribution resolved."""
    value, _ = quad(density, 0.0, 14.0, limit=500, points=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    return float(value)


def _mean_answer(constant: Constant, count: int, scales: Tensor) -> Answer:
    mean = moments(count).mean
    source = f"C(n) E[range], E[range] = {mean:.4f} by quadrature"
    if abs(_EARLIER.get(count, mean) - mean) > 6e-4:
        source += f" (a Monte Carlo made earlier gave {_EARLIER[count]}, which is off)"
    known = constant_of(constant, count) * mean
    return equals(f"C(n) range / s, {constant} constant", f"n = {count}", estimate(scales.tolist()), known, source)


def _bounds(measured: Mapping[int, Estimate]) -> list[Answer]:
    name = "C(n) range / s, paper constant"
    low, high = (choose(measured, key=lambda count: measured[count].value) for choose in (min, max))
    return [
        bounded(name, f"n = {low}, smallest", measured[low], "at least", 0.325, LOWER),
        bounded(name, f"n = {high}, largest", measured[high], "at most", 2.0, UPPER),
    ]


def _chunk_answers(count: int, chunks: int, scales: Tensor) -> list[Answer]:
    size = count // chunks
    theory = moments(size)
    known = constant_of("code", size) * theory.mean
    text = f"n = {count} in {chunks} chunks"
    source = f"C(n/{chunks}) E[range of n/{chunks}], by quadrature"
    relative = float(scales.std() / scales.mean())
    # Of a sample deviation, for nearly Gaussian values; ranges have somewhat heavier tails.
    error = relative / math.sqrt(2 * (len(scales) - 1))
    spread = theory.deviation / theory.mean / math.sqrt(chunks)
    return [
        equals("C range / s, code constant", text, estimate(scales.tolist()), known, source),
        equals(
            "sd of the scale / its mean", text, Estimate(relative, error), spread, SPREAD, extra=0.1 * spread,
            because="(10 %) as ranges are not Gaussian",
        ),
    ]  # fmt: skip


def _picture(counts: Sequence[int], chunked: int, chunks: Sequence[int], answers: Sequence[Answer]) -> Picture:
    by_place = {(answer.quantity, answer.setting): answer for answer in answers}
    series: list[Series] = []
    for constant in CONSTANTS:
        found = [by_place[f"C(n) range / s, {constant} constant", f"n = {count}"] for count in counts]
        series += with_known(f"{constant} constant", constant, counts, found)
    spread = [by_place["sd of the scale / its mean", f"n = {chunked} in {k} chunks"] for k in chunks]
    return Picture(
        name="range-constant",
        title="range batch norm on Gaussian values",
        note="points: measured, with 4 standard errors; dashed: known answer",
        columns=2,
        panels=(
            Panel(
                title="scale over standard deviation", x_label="values per channel n", y_label="C(n) range / s",
                series=tuple(series), x_scale="log", level=(1.0, "batch norm"),
            ),
            Panel(
                title=f"its relative spread, n = {chunked}", x_label="chunks", y_label="sd / mean",
                series=tuple(with_known("code constant", "code", chunks, spread)), x_scale="log2",
            ),
        ),
    )  # fmt: skip
