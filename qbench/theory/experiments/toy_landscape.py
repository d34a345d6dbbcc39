"""Stationary laws of SR and BinaryConnect on an objective with three valleys, by step size (Li et al. 2017).

SR's chain only slows down as the step size falls: its law has a limit. BinaryConnect's float copy averages the noise
over many steps, so its law goes on gathering at the best valley, provided that it gets there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from qbench.options import PositiveInt
from qbench.theory import chains as exact
from qbench.theory.findings import Answer, Estimate, Findings, Panel, Picture, Series, bounded, equals, estimate
from qbench.theory.landscape import BEST, SPACING, Array, Landscape, objective, slope
from qbench.theory.progress import Progress, tracked
from qbench.theory.rules import BinaryConnect, OnGrid, Rule

StepSize = Annotated[float, Interval(gt=0, le=1)]
Noise = Annotated[float, Gt(0)]

RULES = {"sr": "SR", "binaryconnect": "BC"}
REACH = 64.0
"""Laws are computed on [-64, 64]; at the largest step size and noise 5 weights stay within 50."""

SHOWN = (-3.0, 8.0)
_EVERY = 5
"""Steps between two looks at where the weights are."""

LAW_SR = "transition matrix of SR's chain, exact at this step size and time"
LAW_BC = "density of BC's float copy, followed on fine cells"
LIMIT = "limit law of SR for small steps, from detailed balance"
_CELLS = 2e-3
"""How far the law of BC's density is off: halving its cells moves these figures by less."""


@dataclass(frozen=True)
class Setting:
    """One run: the rule, the noise of the gradient and the step size."""

    rule: str
    noise: float
    step: float

    @property
    def text(self) -> str:
        return f"noise {self.noise:g}, step {self.step:g}"


@dataclass(frozen=True)
class Visits:
    """Where the chains of one setting were: how often near the best minimum and the mean objective [chains], and the
    share of time at each grid point of :func:`shown_grid`."""

    best: Tensor
    objective: Tensor
    histogram: Array


def toy_landscape(
    *,
    seed: int,
    progress: Progress,
    noises: tuple[Noise, ...] = (1.0, 5.0),
    steps: tuple[StepSize, ...] = (1.0, 0.1, 0.01, 0.001),
    chains: Annotated[int, Ge(2)] = 500,
    iterations: PositiveInt = 40_000,
) -> Findings:
    """Where SR and BinaryConnect spend their time on three valleys.

    noises: standard deviations of the gradient's noise. steps: constant step sizes. chains: independent runs.
    iterations: updates, from 0; the second half is watched.
    """
    settings = [Setting(rule, noise, step) for rule in RULES for noise in noises for step in steps]
    visits = simulate(settings, chains, iterations, seed, progress)
    answers: list[Answer] = []
    for noise in noises:
        answers += _against_limit(noise, steps, visits, iterations)
    for setting in settings:
        answers += _against_law(setting, visits[setting], iterations)
    pictures = tuple(_picture(noise, steps, visits) for noise in noises)
    return Findings(answers=tuple(answers), pictures=pictures)


def simulate(
    settings: Sequence[Setting], chains: int, iterations: int, seed: int, progress: Progress
) -> dict[Setting, Visits]:
    """The second half of the runs of ``settings``; rules see the same noise."""
    landscape = Landscape()
    pairs = list(dict.fromkeys((setting.noise, setting.step) for setting in settings))
    noise = torch.tensor([pair[0] for pair in pairs])[:, None]
    step = torch.tensor([pair[1] for pair in pairs])[:, None]
    start, spacing = torch.zeros(len(pairs), chains), torch.tensor(SPACING)
    rules: dict[str, Rule] = {
        "sr": OnGrid(start, spacing, "stochastic", seed, "toy/sr"),
        "binaryconnect": BinaryConnect(start, spacing, "nearest", seed, "toy/bc"),
    }
    seen = {name: _Seen(len(pairs), chains, landscape) for name in rules}
    generator = torch.Generator().manual_seed(seed)
    for iteration in tracked(range(iterations), iterations, progress):
        drawn = noise * torch.randn(len(pairs), chains, generator=generator)
        for name, rule in rules.items():
            w = rule.point()
            if iteration >= iterations // 2 and iteration % _EVERY == 0:
                seen[name].look(w)
            rule.move(step * (landscape.slope(w) + drawn))
    return {s: seen[s.rule].visits(pairs.index((s.noise, s.step))) for s in settings}


class _Seen:
    """Counts where weights [runs, chains] were."""

    def __init__(self, runs: int, chains: int, landscape: Landscape) -> None:
        self._landscape = landscape
        self._looks = 0
        self._best = torch.zeros(runs, chains, dtype=torch.float64)
        self._objective = torch.zeros(runs, chains, dtype=torch.float64)
        self._counts = torch.zeros(runs, len(shown_grid()), dtype=torch.float64)

    def look(self, w: Tensor) -> None:
        """Take down where the weights are."""
        self._looks += 1
        self._best += (w >= BEST[0]) & (w <= BEST[1])
        self._objective += self._landscape.objective(w)
        place = ((w - SHOWN[0]) / SPACING).round().long()
        inside = (place >= 0) & (place < self._counts.shape[1])
        self._counts.scatter_add_(1, torch.where(inside, place, 0), inside.double())

    def visits(self, run: int) -> Visits:
        """The shares of time and means of one run."""
        share = self._counts[run] / (self._looks * self._best.shape[1])
        return Visits(self._best[run] / self._looks, self._objective[run] / self._looks, share.numpy())


def shown_grid() -> Array:
    """The grid points of the plots."""
    return np.arange(SHOWN[0], SHOWN[1] + SPACING, SPACING)


def chain_of(setting: Setting) -> exact.Chain:
    """The exact chain of a setting."""
    make = exact.stochastic_rounding if setting.rule == "sr" else exact.binaryconnect
    return make(slope, setting.step, setting.noise, SPACING, -REACH, REACH)


def small_step_law(noise: float) -> tuple[Array, Array]:
    """The grid and SR's limit law on it."""
    # Far out the law is below what a float64 can hold beside 1.
    grid = np.arange(-8.0, 14.0, SPACING)
    return grid, exact.small_step_law(slope, noise, grid)


def _against_law(setting: Setting, visits: Visits, iterations: int) -> list[Answer]:
    """The measured figures against the exact law over the same time."""
    chain = chain_of(setting)
    half = iterations // 2
    law = chain.average(chain.after(chain.start(0.0), half), iterations - half)
    is_sr = setting.rule == "sr"
    source, extra, because = (LAW_SR, 0.0, "") if is_sr else (LAW_BC, _CELLS, "for the width of the cells")
    best = exact.probability(law, chain.values, BEST)
    mean = exact.expected(law, objective(chain.values))
    name = RULES[setting.rule]
    return [
        equals(f"{name}: P(4.5) + P(5.0)", setting.text, _estimate(visits.best, best), best, source, extra=extra,
               because=because),
        equals(f"{name}: mean f", setting.text, estimate(visits.objective.tolist()), mean, source,
               extra=extra * max(mean, 1.0), because=because),
    ]  # fmt: skip


def _estimate(shares: Tensor, expected: float) -> Estimate:
    """The mean share over chains. Where none of the chains, or few, were ever seen at a place that is rarely visited,
    their spread says too little: the standard error is at least that of as many independent visits."""
    found = estimate(shares.tolist())
    return Estimate(found.value, max(found.error, (expected * (1 - expected)) ** 0.5 / len(shares)))


def _against_limit(
    noise: float, steps: Sequence[float], visits: dict[Setting, Visits], iterations: int
) -> list[Answer]:
    """SR's law at the smallest step size that settles in half the time, and BinaryConnect's beside it."""
    grid, law = small_step_law(noise)
    best, mean = exact.probability(law, grid, BEST), exact.expected(law, objective(grid))
    settled = [(step, away) for step in steps if (away := _away(noise, step, iterations, best)) < 0.01]
    answers = []
    for step, away in settled:
        found = visits[Setting("sr", noise, step)]
        text = Setting("sr", noise, step).text
        answers.append(
            equals("SR: P(4.5) + P(5.0), limit", text, estimate(found.best.tolist()), best, LIMIT, extra=away + 1e-6,
                   because="as the run is finite")
        )  # fmt: skip
        answers.append(
            equals("SR: mean f, limit", text, estimate(found.objective.tolist()), mean, LIMIT, extra=4 * away + 1e-6,
                   because="as the run is finite")
        )  # fmt: skip
    return answers
