"""The learning rate over training, as a factor on the base rate: pure functions of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qbench.train.settings import ScheduleSettings


def factor(settings: ScheduleSettings, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The factor on the learning rate for optimiser step ``step`` in [0, total_steps).

    During the first ``w = warmup_epochs * steps_per_epoch`` steps it rises linearly, (step + 1) / w, so the first step
    is one increment above 0 and not lost. After that, with p = (step - w) / (total_steps - w) in [0, 1) and f the
    final factor: ``constant`` 1; ``cosine`` f + (1 - f) (1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, Eq. 5, one
    cycle); ``exponential`` f^p; ``step`` factor^(number of milestones m with step >= m * total_steps).
    """
    warmup_steps = min(round(settings.warmup_epochs * steps_per_epoch), total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return _SHAPES[settings.name](settings, progress, step / total_steps)


def _constant(settings: ScheduleSettings, progress: float, trained: float) -> float:
    return 1.0


def _cosine(settings: ScheduleSettings, progress: float, trained: float) -> float:
    return settings.final_factor + (1 - settings.final_factor) * (1 + math.cos(math.pi * progress)) / 2


def _exponential(settings: ScheduleSettings, progress: float, trained: float) -> float:
    return float(settings.final_factor**progress)


def _step(settings: ScheduleSettings, progress: float, trained: float) -> float:
    return float(settings.factor ** sum(trained >= milestone for milestone in settings.milestones))


_SHAPES: dict[str, Callable[[ScheduleSettings, float, float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "exponential": _exponential,
    "step": _step,
}
