"""BinaryConnect on convex problems: where its float copy, the rounded weights and their averages go, beside SR.

The gradient is taken at Q(wr), so it is the mean of Q(wr) that reaches the minimiser. With nearest rounding the float
copy itself stays at a decision point of Q; with unbiased rounding the mean of Q(wr) is wr, and wr gets there too. SR
has no float copy, and stops at its floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from qbench.options import PositiveInt
from qbench.theory.findings import (
    Answer,
    Estimate,
    Findings,
    Panel,
    Picture,
    beside,
    bounded,
    equals,
    estimate,
    points,
)
from qbench.theory.least_squares import LeastSquares, gradient
from qbench.theory.progress import Progress, tracked
from qbench.theory.rules import BinaryConnect, OnGrid, Rule

FractionBits = Annotated[int, Interval(ge=0, le=8)]

DELAY = 20.0
"""Step t is 1 / (mu t + DELAY): single samples would throw the weights far away in the first steps otherwise."""

THRESHOLD = "decision point of Q next to the minimiser"
MINIMISER = "minimiser of F: the mean gradient at Q(wr) vanishes"
UNBIASED = "minimiser of F: with unbiased rounding the mean of Q(wr) is wr"
NO_FLOOR = "Li et al. 2017: no floor for BC with unbiased rounding on quadratics; SR keeps its own"
HALF_SPACING = "|wr - Q(wr)| <= spacing / 2, and the mean of Q(wr) is the minimiser: curvature * d * spacing^2 / 8"
OTHERS = "an independent simulation, one seed and 100,000 steps: for the order of magnitude"

_OTHERS = {
    ("sr", 0.5): 11.5, ("sr", 0.25): 3.05, ("sr", 0.125): 1.10,
    ("nearest, wr", 0.5): 0.379, ("nearest, wr", 0.25): 0.101, ("nearest, wr", 0.125): 0.028,
    ("nearest, Q(wr)", 0.5): 0.0012, ("nearest, Q(wr)", 0.25): 0.0010, ("nearest, Q(wr)", 0.125): 0.0002,
    ("stochastic, wr", 0.5): 0.0005, ("stochastic, wr", 0.25): 0.0002, ("stochastic, wr", 0.125): 0.00005,
}  # fmt: skip

_OTHERS_PROBLEM = (50, 400, 0.1)
"""Dimensions, samples and label noise behind these figures."""

_NAMES = {
    "sr": "SR: F - F* at the mean of w",
    "nearest, wr": "BC nearest: F - F* at the mean of wr",
    "nearest, Q(wr)": "BC nearest: F - F* at the mean of Q(wr)",
    "stochastic, wr": "BC stochastic: F - F* at the mean of wr",
}


@dataclass(frozen=True)
class Line:
    """What the one-dimensional runs end with: the float copies [chains] and the means of Q(wr) over time [chains]."""

    copies: Mapping[str, Tensor]
    means: Mapping[str, Tensor]


def binaryconnect_convex(
    *,
    seed: int,
    progress: Progress,
    fraction_bits: tuple[FractionBits, ...] = (1, 2, 3),
    dimensions: PositiveInt = 50,
    samples: PositiveInt = 400,
    label_noise: Annotated[float, Ge(0)] = 0.1,
    minimum: Annotated[float, Interval(gt=0.0, lt=0.5)] = 0.3,
    chains: Annotated[int, Ge(2)] = 8,
    iterations: Annotated[int, Ge(100)] = 20_000,
) -> Findings:
    """Where BinaryConnect's weights go on a quadratic of one dimension and on least squares, beside SR.

    fraction_bits: the least squares grid has spacing 2^-fraction_bits. dimensions, samples, label_noise: weights,
    rows and the labels' noise (standard deviation) of least squares. minimum: of (w - minimum)^2 / 2, whose grid is
    the integers. chains: independent runs. iterations: single-sample updates; means are over the second half.
    """
    line = _on_a_line(minimum, 32 * chains, iterations, seed, tracked(range(iterations), iterations, progress, 0, 0.3))
    answers = list(_line_answers(line, minimum, iterations))
    problem = LeastSquares(samples, dimensions, label_noise, seed)
    spacings = [2.0**-bits for bits in fraction_bits]
    work = tracked(range(iterations), iterations, progress, 0.3, 1)
    losses = _on_least_squares(problem, spacings, chains, seed, iterations, work)
    found = {name: [estimate(values.tolist()) for values in rows] for name, rows in losses.items()}
    for index, spacing in enumerate(spacings):
        others = _OTHERS if (dimensions, samples, label_noise) == _OTHERS_PROBLEM else {}
        answers += _least_squares_answers(problem, spacing, {name: rows[index] for name, rows in found.items()}, others)
    return Findings(answers=tuple(answers), pictures=(_picture(spacings, found),))


def _on_a_line(minimum: float, chains: int, iterations: int, seed: int, work: Iterator[int]) -> Line:
    """(w - minimum)^2 / 2 without noise, spacing 1, step t = 1 / (t + 2)."""
    start, spacing = torch.zeros(chains), torch.tensor(1.0)
    rules = {
        "nearest": BinaryConnect(start[:1], spacing, "nearest", seed, "line/nearest"),
        "stochastic": BinaryConnect(start, spacing, "stochastic", seed, "line/stochastic"),
    }
    sums = {name: torch.zeros(rule.weights.shape, dtype=torch.float64) for name, rule in rules.items()}
    for t in work:
        for name, rule in rules.items():
            q = rule.point()
            sums[name] += q
            rule.move((q - minimum) / (t + 2))
    return Line(
        {name: rule.weights for name, rule in rules.items()},
        {name: total / iterations for name, total in sums.items()},
    )


def _line_answers(line: Line, minimum: float, iterations: int) -> Iterator[Answer]:
    text = f"F = (w - {minimum:g})^2 / 2, spacing 1, step 1/(t + 2)"
    # The last step past the decision point is the farthest that the copy can be from it.
    last = (1 - minimum) / (iterations + 1)
    copy = Estimate(float(line.copies["nearest"]))
    yield equals("BC nearest: wr", text, copy, 0.5, THRESHOLD, extra=last + 1e-6, because="for the last step")
    # Summation by parts: the mean differs by less than the mean of the distances of wr from its limit, about ln T / T.
    rest = (math.log(iterations) + 3) / iterations
    mean = Estimate(float(line.means["nearest"]))
    yield equals("BC nearest: mean of Q(wr)", text, mean, minimum, MINIMISER, extra=rest, because="for (ln T + 3) / T")
    yield equals("BC stochastic: wr", text, estimate(line.copies["stochastic"].tolist()), minimum, UNBIASED)


def _on_least_squares(
    problem: LeastSquares, spacings: Sequence[float], chains: int, seed: int, iterations: int, work: Iterator[int]
) -> dict[str, Tensor]:
    """F - F* at the means over the second half [spacings, chains]."""
    start = torch.zeros(len(spacings), chains, len(problem.best))
    spacing = torch.tensor(spacings)[:, None, None]
    nearest = BinaryConnect(start, spacing, "nearest", seed, "squares/nearest")
    stochastic = BinaryConnect(start, spacing, "stochastic", seed, "squares/stochastic")
    rules: tuple[Rule, ...] = (OnGrid(start, spacing, "stochastic", seed, "squares/sr"), nearest, stochastic)
    sums = {name: torch.zeros(start.shape, dtype=torch.float64) for name in _NAMES}
    generator = torch.Generator().manual_seed(seed)
    curvature = float(problem.curvatures[0])
    for t in work:
        rows, y = problem.draw(chains, 1, generator)
        points = [rule.point() for rule in rules]
        if t >= iterations // 2:
            watched = (points[0], nearest.weights, points[1], stochastic.weights)
            for name, w in zip(_NAMES, watched, strict=True):
                sums[name] += w
        for rule, w in zip(rules, points, strict=True):
            rule.move(gradient(w, rows, y) / (curvature * t + DELAY))
    return {name: problem.excess(total / (iterations - iterations // 2)) for name, total in sums.items()}


def _least_squares_answers(
    problem: LeastSquares,
    spacing: float,
    found: Mapping[str, Estimate],
    others: Mapping[tuple[str, float], float],
) -> Iterator[Answer]:
    text = f"least squares, spacing 1/{round(1 / spacing)}"
    for name, measured in found.items():
        yield beside(_NAMES[name], text, measured, others.get((name, spacing)), OTHERS)
    bound = float(problem.curvatures[-1]) * len(problem.best) * spacing**2 / 8
    yield bounded(_NAMES["nearest, wr"], f"{text}, bound", found["nearest, wr"], "at most", bound, HALF_SPACING)
    yield bounded(
        f"{_NAMES['stochastic, wr']}, over SR's", text, _ratio(found["stochastic, wr"], found["sr"]), "at most", 0.01,
        NO_FLOOR,
    )  # fmt: skip


def _ratio(a: Estimate, b: Estimate) -> Estimate:
    """a / b for independent estimates, to first order."""
    value = a.value / b.value
    return Estimate(value, abs(value) * math.hypot(a.error / a.value, b.error / b.value))


def _picture(spacings: Sequence[float], found: Mapping[str, Sequence[Estimate]]) -> Picture:
    roles = {"sr": "sr", "nearest, wr": "binaryconnect", "nearest, Q(wr)": "rounded", "stochastic, wr": "stochastic"}
    labels = {"sr": "SR: w", **{name: f"BC {name}" for name in found if name != "sr"}}
    series = [points(labels[name], roles[name], spacings, rows) for name, rows in found.items()]
    return Picture(
        name="binaryconnect-convex",
        title="least squares: excess loss at the mean of the weights",
        note="means over the second half of the run, step 1/(\N{GREEK SMALL LETTER MU}t + 20); bars: 4 standard errors",
        columns=1,
        panels=(
            Panel(
                x_label="grid spacing", y_label="F \N{MINUS SIGN} F*", series=tuple(series), x_scale="log2",
                y_scale="log",
            ),
        ),
    )  # fmt: skip
