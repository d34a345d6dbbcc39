"""Binary weights changed by SR when the gradient is noise alone: the null line of every plot of weight changes.

On {-1, +1} a step of size s against a weight's sign flips it with probability s / 2, and a step along its sign does
nothing. If half of the steps are against it, a weight flips with probability f = E[s] / 4, and after t steps it differs
from its first value with probability (1 - (1 - 2 f)^t) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from qbench.kernels.random import Key
from qbench.kernels.updates import adam_on_grid_, sgd_on_grid_
from qbench.nn.clock import tensor_id
from qbench.optim.on_grid import ADAM_EPS, grid_of
from qbench.options import PositiveInt
from qbench.quant.formats import Binary
from qbench.theory.findings import Answer, Estimate, Findings, Panel, Picture, Series, equals
from qbench.theory.progress import Progress, tracked

StepSize = Annotated[float, Interval(gt=0, lt=1)]
Noise = Literal["sign", "gauss", "adam"]

NAMES: dict[Noise, str] = {
    "sign": "SGD, gradient \N{PLUS-MINUS SIGN}1",
    "gauss": "SGD, gradient N(0, 1)",
    "adam": "Adam, gradient N(0, 1)",
}
BETA_1, BETA_2 = 0.9, 0.999

FORMULA = "(1 - (1 - step/2)^t) / 2"
GAUSSIAN = "(1 - (1 - step sqrt(2/pi) / 2)^t) / 2"
ADAM = "(1 - prod(1 - E|u| / 2)) / 2, the mean length E|u| of Adam's steps measured in the same run"

_CORRELATED = 0.02
"""Adam's steps keep their direction for about 10 steps, in which a share lr of the weights flips: of that order is the
error of taking steps for independent."""


@dataclass(frozen=True)
class Course:
    """The share of weights that differ from their first value, and what the formula says, after each step."""

    share: list[float]
    known: list[float]


def pure_noise(
    *,
    seed: int,
    progress: Progress,
    steps: tuple[StepSize, ...] = (0.01, 0.03),
    weights: Annotated[int, Ge(100)] = 50_000,
    epochs: PositiveInt = 3,
    iterations: PositiveInt = 391,
) -> Findings:
    """The share of binary weights that SR changes without any signal.

    steps: step sizes. weights: how many there are. epochs, of iterations updates each: 391 batches of 128 are CIFAR's.
    """
    answers: list[Answer] = []
    cases = [(noise, step) for noise in NAMES for step in steps]
    courses: dict[tuple[Noise, float], Course] = {}
    for index, (noise, step) in enumerate(cases):
        work = tracked(
            range(epochs * iterations), epochs * iterations, progress, index / len(cases), (index + 1) / len(cases)
        )
        courses[noise, step] = _run(noise, step, weights, seed, work)
        answers += _answers(noise, step, courses[noise, step], weights, epochs, iterations)
    panels = [_panel(step, {noise: courses[noise, step] for noise in NAMES}, iterations) for step in steps]
    picture = Picture(
        name="pure-noise",
        title="stochastic rounding without a signal: binary weights that differ from their first value",
        note="dots: measured; dashed: known answer",
        columns=len(panels),
        panels=tuple(panels),
        same_axes=True,
    )
    return Findings(answers=tuple(answers), pictures=(picture,))


def _run(noise: Noise, step: float, count: int, seed: int, work: Iterator[int]) -> Course:
    generator = torch.Generator().manual_seed(seed)
    grid = grid_of(Binary(1.0, "stochastic"))
    first = (2 * torch.randint(2, (count,), generator=generator) - 1).to(torch.int8)
    codes = first.clone()
    m, v = torch.zeros(count), torch.zeros(count)
    course, unchanged = Course([], []), 1.0
    for t in work:
        key = Key(seed, tensor_id(f"pure-noise/{noise}/{step}"), t)
        place = (grid.scale, grid.low, grid.high, grid.rounding, key)
        g = torch.randn(count, generator=generator)
        if noise == "adam":
            adam_on_grid_(codes, g, m, v, step, BETA_1, BETA_2, ADAM_EPS, t + 1, 0.0, *place)
            length = step * _mean_length(m, v, t + 1)
        else:
            g = g if noise == "gauss" else g.sign()
            sgd_on_grid_(codes, g, None, step, 0.0, 0.0, False, False, *place)
            length = step * (1.0 if noise == "sign" else math.sqrt(2 / math.pi))
        unchanged *= 1 - length / 2
        course.share.append(float((codes != first).double().mean()))
        course.known.append((1 - unchanged) / 2)
    return course


def _mean_length(m: Tensor, v: Tensor, step: int) -> float:
    """The mean length of Adam's step, in units of the step size."""
    corrected = (v.double() / (1 - BETA_2**step)).sqrt() + ADAM_EPS
    return float((m.double().abs() / (1 - BETA_1**step) / corrected).mean())


def _answers(noise: Noise, step: float, course: Course, count: int, epochs: int, iterations: int) -> Iterator[Answer]:
    source = {"sign": FORMULA, "gauss": GAUSSIAN, "adam": ADAM}[noise]
    for epoch in range(1, epochs + 1):
        at = epoch * iterations - 1
        known = course.known[at]
        measured = Estimate(course.share[at], math.sqrt(known * (1 - known) / count))
        extra, because = (_CORRELATED * known, "(2 %) as Adam's steps are correlated") if noise == "adam" else (0.0, "")
        yield equals(
            f"SR: share changed, {NAMES[noise]}", f"step {step:g}, {at + 1} updates", measured, known, source,
            extra=extra, because=because,
        )  # fmt: skip


def _panel(step: float, courses: dict[Noise, Course], iterations: int) -> Panel:
    series: list[Series] = []
    for noise, course in courses.items():
        every = max(len(course.share) // 40, 1)
        at = range(every - 1, len(course.share), every)
        x = tuple((t + 1) / iterations for t in at)
        series.append(_series(NAMES[noise], noise, x, [course.share[t] for t in at], "points"))
        series.append(_series("", "known", x, [course.known[t] for t in at], "dashed"))
    return Panel(
        title=f"step {step:g}",
        x_label=f"updates / {iterations}",
        y_label="share of weights changed",
        series=tuple(series),
        level=(0.5, "random signs"),
    )


def _series(
    label: str, role: str, x: Sequence[float], y: Sequence[float], style: Literal["points", "dashed"]
) -> Series:
    return Series(label=label, role=role, style=style, x=tuple(x), y=tuple(y))
