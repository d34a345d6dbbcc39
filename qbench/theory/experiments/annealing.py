"""SR and BinaryConnect on the three valleys while the step size falls stage by stage.

Large steps explore, small steps exploit: BinaryConnect's weights gather at the best valley. SR's law follows the step
size only down to its limit law and stays there, however small the step (Li et al. 2017, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from qbench.theory import chains as exact
from qbench.theory.experiments.toy_landscape import (
    AT_BEST,
    LAW_SR,
    RULES,
    Setting,
    chain_of,
    limit_law,
    share,
)
from qbench.theory.findings import Answer, Findings, Panel, Picture, Series, bounded, equals, points
from qbench.theory.landscape import BEST, SPACING, Array, Landscape
from qbench.theory.progress import Progress, tracked
from qbench.theory.rules import BinaryConnect, OnGrid, Rule

StepSize = Annotated[float, Interval(gt=0, le=1)]
Noise = Annotated[float, Gt(0)]

BEYOND = "SR's limit law: BC's float copy averages the noise, so a smaller step gathers it at the best valley"


def annealing(
    *,
    seed: int,
    progress: Progress,
    noises: tuple[Noise, ...] = (1.0, 5.0),
    steps: tuple[StepSize, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003),
    chains: Annotated[int, Ge(2)] = 500,
    iterations: Annotated[int, Ge(2)] = 4000,
) -> Findings:
    """SR and BinaryConnect on three valleys while the step size falls.

    noises: standard deviations of the gradient's noise. steps: step sizes, one stage each. chains: independent runs.
    iterations: updates in each stage; the second half of each is watched.
    """
    shares = _simulate(noises, steps, chains, iterations, seed, progress)
    answers: list[Answer] = []
    laws = {noise: _laws(noise, steps, iterations) for noise in noises}
    for noise in noises:
        answers += _answers(noise, steps, shares, laws[noise])
    pictures = (_picture(noises, steps, shares, laws),)
    return Findings(answers=tuple(answers), pictures=pictures)


def _simulate(
    noises: Sequence[float], steps: Sequence[float], chains: int, iterations: int, seed: int, progress: Progress
) -> dict[Setting, Tensor]:
    """The share of the second half of each stage that each chain spends at the best grid points."""
    landscape, spacing = Landscape(), torch.tensor(SPACING)
    start, noise = torch.zeros(len(noises), chains), torch.tensor(noises)[:, None]
    rules: dict[str, Rule] = {
        "sr": OnGrid(start, spacing, "stochastic", seed, "annealing/sr"),
        "binaryconnect": BinaryConnect(start, spacing, "nearest", seed, "annealing/bc"),
    }
    generator = torch.Generator().manual_seed(seed)
    found: dict[Setting, Tensor] = {}
    for index, step in enumerate(steps):
        counts = {name: torch.zeros(len(noises), chains, dtype=torch.float64) for name in rules}
        part = (index / len(steps), (index + 1) / len(steps))
        for iteration in tracked(range(iterations), iterations, progress, *part):
            drawn = noise * torch.randn(len(noises), chains, generator=generator)
            for name, rule in rules.items():
                w = rule.point()
                if iteration >= iterations // 2:
                    counts[name] += (w >= BEST[0]) & (w <= BEST[1])
                rule.move(step * (landscape.slope(w) + drawn))
        for name in rules:
            for row, deviation in enumerate(noises):
                found[Setting(name, deviation, step)] = counts[name][row] / (iterations - iterations // 2)
    return found


def _laws(noise: float, steps: Sequence[float], iterations: int) -> list[float]:
    """SR's exact probability of the best points in the second half of each stage."""
    points, law = torch.empty(0).double().numpy(), torch.empty(0).double().numpy()
    found = []
    for step in steps:
        chain = chain_of(Setting("sr", noise, step))
        law = _carried(points, law, chain) if len(points) else chain.start(0.0)
        middle = chain.after(law, iterations // 2)
        rest = iterations - iterations // 2
        found.append(exact.probability(chain.average(middle, rest), chain.values, BEST))
        points, law = chain.points, chain.after(middle, rest)
    return found


def _carried(points: Array, law: Array, chain: exact.Chain) -> Array:
    """``law`` on the grid points of ``chain``, which ends earlier: what lies beyond is next to nothing."""
    carried = chain.start(0.0) * 0
    for point, weight in zip(points, law, strict=True):
        place = round((point - chain.points[0]) / SPACING)
        carried[min(max(place, 0), len(carried) - 1)] += weight
    return carried


def _answers(
    noise: float, steps: Sequence[float], shares: Mapping[Setting, Tensor], laws: Sequence[float]
) -> Iterator[Answer]:
    for step, law in zip(steps, laws, strict=True):
        setting = Setting("sr", noise, step)
        yield equals(f"SR: {AT_BEST}", f"{setting.text}, annealed", share(shares[setting], law), law, LAW_SR)
    grid, limit = limit_law(noise)
    best = exact.probability(limit, grid, BEST)
    last = Setting("binaryconnect", noise, steps[-1])
    measured = share(shares[last], best)
    yield bounded(f"BC: {AT_BEST}, beyond SR's limit", f"{last.text}, annealed", measured, "at least", best, BEYOND)


def _picture(
    noises: Sequence[float],
    steps: Sequence[float],
    shares: Mapping[Setting, Tensor],
    laws: Mapping[float, Sequence[float]],
) -> Picture:
    panels = []
    for noise in noises:
        grid, limit = limit_law(noise)
        series = [_series(rule, noise, steps, shares) for rule in RULES]
        series.append(Series(label="SR, exact", role="known", style="dashed", x=tuple(steps), y=tuple(laws[noise])))
        panels.append(
            Panel(
                title=f"noise {noise:g}", x_label="step size, falling from right to left", y_label=AT_BEST,
                series=tuple(series), x_scale="log", level=(exact.probability(limit, grid, BEST), "SR's limit law"),
            )
        )  # fmt: skip
    return Picture(
        name="annealing",
        title="three valleys: share of time at the best grid points while the step size falls",
        note="points: measured, with 4 standard errors",
        columns=len(noises),
        panels=tuple(panels),
        same_axes=True,
    )


def _series(rule: str, noise: float, steps: Sequence[float], shares: Mapping[Setting, Tensor]) -> Series:
    return points(RULES[rule], rule, steps, [share(shares[Setting(rule, noise, step)], 0.0) for step in steps])
