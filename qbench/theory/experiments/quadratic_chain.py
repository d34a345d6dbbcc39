"""SR on one quadratic, F(w) = (w - c)^2 / 2 with Gaussian gradient noise, where the stationary law is known.

The mean loss is (spacing / 4) E|g| whatever the step size, as long as steps stay below the spacing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from qbench.options import PositiveInt
from qbench.theory.chains import Array, expected, positive_part, small_step_law, stochastic_rounding
from qbench.theory.findings import Answer, Findings, Panel, Picture, equals, estimate, known_line, points
from qbench.theory.progress import Progress, tracked
from qbench.theory.rules import OnGrid

FractionBits = Annotated[int, Interval(ge=0, le=6)]
StepSize = Annotated[float, Interval(gt=0, lt=1)]
Noise = Annotated[float, Gt(0)]

_REACH = 16.0
"""The grid on which laws are computed ends here; the weights stay within a few units of the minimum."""

SOURCE = "(spacing / 4) E|g| under the law from detailed balance"


def quadratic_chain(
    *,
    seed: int,
    progress: Progress,
    fraction_bits: tuple[FractionBits, ...] = (0, 1, 2),
    steps: tuple[StepSize, ...] = (0.1, 0.02),
    minimum: Annotated[float, Interval(ge=-1, le=1)] = 0.3,
    noise: Noise = 1.0,
    chains: Annotated[int, Ge(2)] = 4000,
    iterations: PositiveInt = 3000,
) -> Findings:
    """SR on (w - minimum)^2 / 2 against its stationary law.

    fraction_bits: the grid's spacing is 2^-fraction_bits. steps: constant step sizes. minimum: of that loss. noise:
    standard deviation of the gradient's noise. chains: independent runs. iterations: updates, from 0; the second half
    is watched.
    """
    settings = [(2.0**-bits, step) for bits in fraction_bits for step in steps]
    losses = _simulate(settings, minimum, noise, chains, iterations, seed, progress)
    answers = []
    for (spacing, step), values in zip(settings, losses, strict=True):
        floor = _floor(spacing, minimum, noise)
        # What a run of this length and step size differs from the limit, exactly.
        away = abs(_mean_loss(spacing, step, minimum, noise, iterations) - floor)
        text = f"spacing {spacing:g}, step {step:g}"
        extra = away if away > 1e-9 else 0.0
        reason = "as the run is finite" if extra else ""
        answers.append(
            equals("SR: mean F", text, estimate(values.tolist()), floor, SOURCE, extra=extra, because=reason)
        )
    return Findings(answers=tuple(answers), pictures=(_picture(settings, answers),))


def _simulate(
    settings: Sequence[tuple[float, float]], minimum: float, noise: float, chains: int, iterations: int, seed: int,
    progress: Progress,
) -> Tensor:  # fmt: skip
    """Mean loss of each chain over the second half [settings, chains]."""
    spacing = torch.tensor([d for d, _ in settings])[:, None]
    step = torch.tensor([a for _, a in settings])[:, None]
    generator = torch.Generator().manual_seed(seed)
    rule = OnGrid(torch.zeros(len(settings), chains), spacing, "stochastic", seed, "quadratic")
    loss = torch.zeros(len(settings), chains, dtype=torch.float64)
    for iteration in tracked(range(iterations), iterations, progress):
        away = rule.point() - minimum
        if iteration >= iterations // 2:
            loss += away.double().square() / 2
        rule.move(step * (away + noise * torch.randn(away.shape, generator=generator)))
    return loss / (iterations - iterations // 2)


def _mean_loss(spacing: float, step: float, minimum: float, noise: float, iterations: int) -> float:
    """What :func:`_simulate` gives in the mean."""
    chain = stochastic_rounding(lambda w: w - minimum, step, noise, spacing, -_REACH, _REACH)
    law = chain.average(chain.after(chain.start(0.0), iterations // 2), iterations - iterations // 2)
    return expected(law, (chain.points - minimum) ** 2 / 2)


def _floor(spacing: float, minimum: float, noise: float) -> float:
    grid: Array = np.arange(-_REACH, _REACH + spacing, spacing)
    law = small_step_law(lambda w: w - minimum, noise, grid)
    return spacing / 4 * expected(law, positive_part(grid - minimum, noise) + positive_part(minimum - grid, noise))


def _picture(settings: Sequence[tuple[float, float]], answers: Sequence[Answer]) -> Picture:
    found = dict(zip(settings, answers, strict=True))
    spacings = list(dict.fromkeys(spacing for spacing, _ in settings))
    steps = list(dict.fromkeys(step for _, step in settings))
    series = [
        points(f"SR, step {step:g}", "sr", spacings, [found[spacing, step].estimate for spacing in spacings])
        for step in steps
    ]
    series.append(known_line("(spacing / 4) E|g|", spacings, [found[spacing, steps[0]] for spacing in spacings]))
    panel = Panel(x_label="grid spacing", y_label="mean F", series=tuple(series), x_scale="log2", y_scale="log")
    return Picture(
        name="quadratic",
        title="one quadratic: mean loss of stochastic rounding",
        note="points: measured, with 4 standard errors; dashed: known answer",
        columns=1,
        panels=(panel,),
    )
