"""The loss at which stochastic rounding stops on least squares, against (spacing / 4) E|g|_1.

Let w live on a grid of spacing D and let a step subtract a * g before it is rounded. As long as a * |g_i| <= D a
coordinate moves by D with probability a * |g_i| / D, so E[move^2] = D * a * |g_i|. On a quadratic F the mean of
|w - w*|^2 changes by -4 a (F - F*) + D * a * |g|_1 per step; at stationarity E[F - F*] = (D / 4) E|g|_1 exactly, for
every step size. Float SGD has E[move^2] = a^2 g_i^2 instead, hence (a / 4) E|g|_2^2; R does not move where a * |g_i|
stays below D / 2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from qbench.options import PositiveInt
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
from qbench.theory.least_squares import LeastSquares, gradient
from qbench.theory.progress import Progress, tracked
from qbench.theory.rules import FloatSGD, OnGrid, Rule

FractionBits = Annotated[int, Interval(ge=0, le=8)]
StepSize = Annotated[float, Gt(0)]
Chains = Annotated[int, Ge(2)]

_EVERY = 4
"""Steps between two looks at the loss."""

_MEASURED = "exact on quadratics; the norm, and how far |w - w*|^2 still drifts, are of the same run"
BALANCE = f"E[F - F*] = (spacing / 4) E|g|_1, {_MEASURED}"
SGD_BALANCE = f"E[F - F*] = (step / 4) E|g|_2^2, {_MEASURED}"
BOUND = "Li et al. 2017, SR on convex F: |w0 - w*|^2 / (2aT) + a G^2 / 2 + sqrt(d) * spacing * G / 2"
STUCK = "rounding to nearest undoes every step below half the spacing"


@dataclass(frozen=True)
class Problem:
    """One setting of a rule: its index in the tensors is its place in the list."""

    spacing: float
    step: float

    @property
    def text(self) -> str:
        return f"spacing 1/{round(1 / self.spacing)}, step {self.step:g}"


@dataclass(frozen=True)
class Stay:
    """Where a rule's weights were while it was watched. Means over time of each chain: excess loss, |g|_1, |g|_2^2, and
    what |w - w*|^2 grew by rounding beyond a * spacing * |g|_1; the growth of |w - w*|^2 per step; the mean weights'
    excess loss. All [problems, chains]."""

    excess: Tensor
    norm_1: Tensor
    norm_2: Tensor
    overshoot: Tensor
    drift: Tensor
    excess_of_mean: Tensor


def stochastic_floor(
    *,
    seed: int,
    progress: Progress,
    fraction_bits: tuple[FractionBits, ...] = (1, 2, 3),
    steps: tuple[StepSize, ...] = (0.008, 0.002),
    batches: tuple[PositiveInt, ...] = (1, 8, 64),
    dimensions: PositiveInt = 50,
    samples: PositiveInt = 400,
    label_noise: StepSize = 1.0,
    chains: Chains = 32,
    iterations: PositiveInt = 12_000,
    burn_in: PositiveInt = 4_000,
) -> Findings:
    """The loss at which SR, R and float SGD stop on least squares.

    fraction_bits: the grid's spacing is 2^-fraction_bits. steps: constant step sizes. batches: samples per gradient.
    dimensions, samples, label_noise: weights, rows and the labels' noise (standard deviation) of least squares.
    chains: independent runs, which give the standard errors. iterations: updates after burn_in.
    """
    problem = LeastSquares(samples, dimensions, label_noise, seed)
    grids = [Problem(2.0**-bits, step) for bits, step in itertools.product(fraction_bits, steps)]
    answers: list[Answer] = []
    floors: dict[tuple[int, Problem], Answer] = {}
    floats: dict[tuple[int, float], Answer] = {}
    for index, batch in enumerate(batches):
        part = (index / len(batches), (index + 1) / len(batches))
        work = tracked(range(burn_in + iterations), burn_in + iterations, progress, *part)
        on_grid, in_float, stuck = _run(problem, grids, steps, batch, chains, seed, work, burn_in)
        floors |= {(batch, grid): _floor(on_grid, i, grid, batch) for i, grid in enumerate(grids)}
        floats |= {(batch, step): _float_floor(in_float, i, step, batch) for i, step in enumerate(steps)}
        if index == 0:
            answers += [_bound(on_grid, i, grid, batch, dimensions) for i, grid in enumerate(grids)]
            answers += _stuck(problem, grids, stuck)
    ordered = [*floors.values(), *floats.values(), *answers]
    return Findings(answers=tuple(ordered), pictures=(_picture(floors, floats, grids, steps, batches),))


def _run(
    problem: LeastSquares, grids: Sequence[Problem], steps: Sequence[float], batch: int, chains: int, seed: int,
    work: Iterator[int], burn_in: int,
) -> tuple[Stay, Stay, Tensor]:  # fmt: skip
    """SR on every grid, float SGD with every step, both from the minimiser; and where R, from 0, got to."""
    generator = torch.Generator().manual_seed(seed + batch)
    best = problem.best.float().expand(len(grids), chains, -1)
    spacing = torch.tensor([grid.spacing for grid in grids])[:, None, None]
    step = torch.tensor([grid.step for grid in grids])[:, None, None]
    float_step = torch.tensor(steps)[:, None, None]
    sr = _Watched(problem, OnGrid(best, spacing, "stochastic", seed, f"floor/sr/{batch}"), step, spacing)
    sgd = _Watched(problem, FloatSGD(best[: len(steps)]), float_step, None)
    r = OnGrid(torch.zeros_like(best), spacing, "nearest", seed, "floor/r")
    for iteration in work:
        rows, y = problem.draw(chains, batch, generator)
        is_watched = iteration >= burn_in
        for watched in (sr, sgd):
            watched.update(rows, y, is_watched, iteration % _EVERY == 0)
        r.move(step * gradient(r.point(), rows, y))
    return sr.stay(), sgd.stay(), r.point()


class _Watched:
    """A rule on all its problems, and the sums of what is measured."""

    def __init__(self, problem: LeastSquares, rule: Rule, step: Tensor, spacing: Tensor | None) -> None:
        self._problem, self._rule, self._step, self._spacing = problem, rule, step, spacing
        shape = rule.point().shape
        self._sums = torch.zeros(4, *shape[:2], dtype=torch.float64)
        self._mean = torch.zeros(shape, dtype=torch.float64)
        self._looks = self._moves = 0
        self._distance = torch.zeros(shape[:2], dtype=torch.float64)

    def update(self, rows: Tensor, y: Tensor, is_watched: bool, is_look: bool) -> None:
        """One step of every chain."""
        w = self._rule.point()
        g = gradient(w, rows, y)
        if is_watched:
            if not self._moves:
                self._distance = self._squared_distance()
            self._mean += w
            self._moves += 1
        if is_watched and is_look:
            self._sums += torch.stack(
                [self._problem.excess(w), g.abs().sum(-1).double(), g.square().sum(-1).double(), self._overshoot(g)]
            )
            self._looks += 1
        self._rule.move(self._step * g)

    def _overshoot(self, g: Tensor) -> Tensor:
        """E[move^2] - step * spacing * |g| summed over coordinates: with a move of k + p spacings (p < 1) the first is
        k^2 + p (2 k + 1) spacings^2, which is more than k + p from two spacings on."""
        if self._spacing is None:
            return torch.zeros(g.shape[:2], dtype=torch.float64)
        moved = (self._step * g / self._spacing).abs().double()
        whole = moved.floor()
        squared = whole.square() + (moved - whole) * (2 * whole + 1)
        return ((squared - moved) * self._spacing.double().square()).sum(-1)

    def stay(self) -> Stay:
        """The means over time."""
        drift = (self._squared_distance() - self._distance) / self._moves
        excess, norm_1, norm_2, overshoot = self._sums / self._looks
        return Stay(excess, norm_1, norm_2, overshoot, drift, self._problem.excess(self._mean / self._moves))

    def _squared_distance(self) -> Tensor:
        distance: Tensor = (self._rule.point() - self._problem.best).square().sum(-1)
        return distance


def _floor(stay: Stay, index: int, grid: Problem, batch: int) -> Answer:
    known = grid.spacing / 4 * stay.norm_1[index] - stay.drift[index] / (4 * grid.step)
    beyond = float(stay.overshoot[index].mean()) / (4 * grid.step)
    return equals(
        "SR: mean F - F*",
        f"{grid.text}, batch {batch}",
        _paired(stay.excess[index], known),
        float(known.mean()),
        BALANCE,
        extra=beyond,
        because="from steps beyond one spacing" if beyond else "",
    )


def _float_floor(stay: Stay, index: int, step: float, batch: int) -> Answer:
    known = step / 4 * stay.norm_2[index] - stay.drift[index] / (4 * step)
    measured = _paired(stay.excess[index], known)
    return equals("float SGD: mean F - F*", f"step {step:g}, batch {batch}", measured, float(known.mean()), SGD_BALANCE)


def _paired(values: Tensor, known: Tensor) -> Estimate:
    """The mean of ``values`` with the standard error of its difference from ``known``, both [chains]."""
    return Estimate(float(values.mean()), estimate((values - known).tolist()).error)


def _bound(stay: Stay, index: int, grid: Problem, batch: int, dimensions: int) -> Answer:
    # Started at the minimiser, rounded: the first term is not needed.
    size = math.sqrt(float(stay.norm_2[index].mean()))
    bound = grid.step * size**2 / 2 + math.sqrt(dimensions) * grid.spacing * size / 2
    measured = estimate(stay.excess_of_mean[index].tolist())
    return bounded("SR: F - F* at the mean of w", f"{grid.text}, batch {batch}", measured, "at most", bound, BOUND)


def _stuck(problem: LeastSquares, grids: Sequence[Problem], weights: Tensor) -> Iterator[Answer]:
    """R's weights, which started at 0, where no sample can move them."""
    longest = problem.largest_gradient(torch.zeros(weights.shape[-1]))
    for index, grid in enumerate(grids):
        if grid.step * longest < grid.spacing / 2:
            moved = float(weights[index].count_nonzero())
            yield equals("R: weights that ever moved", f"{grid.text}, batch 1", Estimate(moved), 0.0, STUCK)


def _picture(
    floors: dict[tuple[int, Problem], Answer],
    floats: dict[tuple[int, float], Answer],
    grids: Sequence[Problem],
    steps: Sequence[float],
    batches: Sequence[int],
) -> Picture:
    spacings = list(dict.fromkeys(grid.spacing for grid in grids))
    first = batches[0]
    by_spacing: list[Series] = []
    for step in steps:
        answers = [floors[first, Problem(d, step)] for d in spacings]
        by_spacing += with_known(f"SR, step {step:g}", f"step {step}", spacings, answers, "known answer")
    by_batch: list[Series] = []
    for d in spacings:
        answers = [floors[batch, Problem(d, steps[-1])] for batch in batches]
        by_batch += with_known(f"SR, spacing 1/{round(1 / d)}", f"spacing {d}", batches, answers)
    in_float = [floats[batch, steps[-1]] for batch in batches]
    by_batch += with_known("float SGD", "fp32", batches, in_float)
    return Picture(
        name="floor",
        title="least squares: the loss at which stochastic rounding stops",
        note="points: measured, with 4 standard errors; dashed: known answer",
        columns=2,
        panels=(
            Panel(
                title=f"batch {first}", x_label="grid spacing", y_label="mean F \N{MINUS SIGN} F*",
                series=tuple(by_spacing), x_scale="log2", y_scale="log",
            ),
            Panel(
                title=f"step {steps[-1]:g}", x_label="batch size", y_label="mean F \N{MINUS SIGN} F*",
                series=tuple(by_batch), x_scale="log2", y_scale="log",
            ),
        ),
    )  # fmt: skip
