"""Stationary laws of SR and BinaryConnect on an objective with three valleys, by step size (Li et al. 2017).

SR's chain only slows down as the step size falls: its law has a limit. BinaryConnect's float copy averages the noise
over many steps, so its law goes on gathering at the best valley, provided that it gets there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
AT_BEST = "P(4.5) + P(5.0)"

_MIDDLE, _REACH_AT_0, _REACH_PER_STEP = 2.5, 6.0, 60.0
"""Laws are computed this far to both sides of the middle: at noise 5 and any step size next to nothing lies outside."""

SHOWN = (-3.0, 8.0)
_EVERY = 5
"""Steps between two looks at where the weights are."""

LAW_SR = "transition matrix of SR's chain, exact at this step size and time"
LAW_BC = "density of BC's float copy, followed on fine cells"
LIMIT = "limit law of SR for small steps, from detailed balance"
BEYOND = "SR's limit: BC's float copy averages the noise, so a smaller step gathers it at the best valley"
_CELLS = 3e-3
"""How far the law of BC's density may be off: halving its cells moves these figures by less."""

_SETTLED = 0.02
"""SR's law over a run this near to its limit is one that has reached it."""


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
    laws = {setting: expected(setting, iterations) for setting in settings}
    answers = [answer for noise in noises for answer in _against_limit(noise, steps, visits, laws)]
    answers += [answer for setting in settings for answer in _against_law(setting, visits[setting], laws[setting])]
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
    reach = math.ceil(_REACH_AT_0 + _REACH_PER_STEP * setting.step)
    return make(slope, setting.step, setting.noise, SPACING, _MIDDLE - reach, _MIDDLE + reach)


def limit_law(noise: float) -> tuple[Array, Array]:
    """The grid and SR's law on it in the limit of small steps."""
    # Far out the law is below what a float64 can hold beside 1.
    grid = np.arange(-8.0, 14.0, SPACING)
    return grid, exact.small_step_law(slope, noise, grid)


@dataclass(frozen=True)
class Expected:
    """What theory says of one setting over the time that is watched."""

    best: float
    objective: float


def expected(setting: Setting, iterations: int) -> Expected:
    """The exact figures of the second half of a run from 0."""
    chain = chain_of(setting)
    half = iterations // 2
    law = chain.average(chain.after(chain.start(0.0), half), iterations - half)
    best = exact.probability(law, chain.values, BEST)
    return Expected(best, exact.expected(law, objective(chain.values)))


def _against_law(setting: Setting, visits: Visits, law: Expected) -> list[Answer]:
    is_sr = setting.rule == "sr"
    source, extra, because = (LAW_SR, 0.0, "") if is_sr else (LAW_BC, _CELLS, "for the width of the cells")
    best, mean = share(visits.best, law.best), estimate(visits.objective.tolist())
    name, scale = RULES[setting.rule], max(law.objective, 1.0)
    return [
        equals(f"{name}: {AT_BEST}", setting.text, best, law.best, source, extra=extra, because=because),
        equals(f"{name}: mean f", setting.text, mean, law.objective, source, extra=extra * scale, because=because),
    ]


def _against_limit(
    noise: float, steps: Sequence[float], visits: Mapping[Setting, Visits], laws: Mapping[Setting, Expected]
) -> Iterator[Answer]:
    """SR's limit law, at the steps that come near it in the time; and BinaryConnect beyond it."""
    grid, law = limit_law(noise)
    limit = Expected(exact.probability(law, grid, BEST), exact.expected(law, objective(grid)))
    for step in steps:
        setting = Setting("sr", noise, step)
        away = abs(laws[setting].best - limit.best), abs(laws[setting].objective - limit.objective)
        if max(away) < _SETTLED:
            found, because = visits[setting], "as step and run are finite"
            best, mean = share(found.best, limit.best), estimate(found.objective.tolist())
            yield equals(f"SR: {AT_BEST}, limit", setting.text, best, limit.best, LIMIT, extra=away[0], because=because)
            yield equals(
                "SR: mean f, limit", setting.text, mean, limit.objective, LIMIT, extra=away[1], because=because
            )
    for step in steps:
        setting = Setting("binaryconnect", noise, step)
        if laws[setting].best > limit.best + 0.1:
            measured = share(visits[setting].best, laws[setting].best)
            yield bounded(f"BC: {AT_BEST}, beyond SR's limit", setting.text, measured, "at least", limit.best, BEYOND)


def share(shares: Tensor, probability: float) -> Estimate:
    """The mean share of time over chains. Chains hardly ever seen at a place say too little of their spread: the
    standard error is at least that of as many independent looks at a place of this ``probability``."""
    found = estimate(shares.tolist())
    least = math.sqrt(probability * (1 - probability)) / len(shares)
    return Estimate(found.value, max(found.error, least))


def _picture(noise: float, steps: Sequence[float], visits: Mapping[Setting, Visits]) -> Picture:
    """The paper's figure: a row for each rule, a column for each step size."""
    panels = [
        _panel(Setting(rule, noise, step), visits[Setting(rule, noise, step)])
        for rule in ("binaryconnect", "sr")
        for step in steps
    ]
    return Picture(
        name=f"valleys-noise-{noise:g}".replace(".", "-"),
        title=f"three valleys, gradient noise {noise:g}: where weights spend their time, by step size",
        note="bars: share of time; dots: SR's limit law for small steps; grey: the objective",
        columns=len(steps),
        panels=tuple(panels),
        same_axes=True,
    )


def _panel(setting: Setting, visits: Visits) -> Panel:
    grid, law = limit_law(setting.noise)
    shown = shown_grid()
    inside = np.isin(grid, shown)
    fine = np.linspace(*SHOWN, 221)
    return Panel(
        title=f"{RULES[setting.rule]}, step {setting.step:g}",
        x_label="weight",
        y_label="share of time",
        series=(
            Series(label="f", role="backdrop", style="backdrop", x=tuple(fine), y=tuple(objective(fine))),
            Series(
                label=RULES[setting.rule], role=setting.rule, style="bars", x=tuple(shown), y=tuple(visits.histogram)
            ),
            Series(label="SR's limit", role="known", style="points", x=tuple(grid[inside]), y=tuple(law[inside])),
        ),
    )  # fmt: skip
