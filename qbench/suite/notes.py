"""Settings that are written down and have no effect: said, never silently ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qbench.train.settings import MeasureSettings, TrainSettings

# A written key of the train section, when it counts, and what to say where it does not.
_TRAIN: tuple[tuple[str, str, Callable[[TrainSettings], bool], str], ...] = (
    ("optimizer", "beta2", lambda t: t.optimizer.name == "adam", "only adam uses it"),
    ("optimizer", "nesterov", lambda t: t.optimizer.name == "sgd", "only sgd uses it"),
    ("schedule", "milestones", lambda t: t.schedule.name == "step", "only the step schedule uses it"),
    ("schedule", "factor", lambda t: t.schedule.name == "step", "only the step schedule uses it"),
    ("schedule", "final_factor", lambda t: t.schedule.name in {"cosine", "exponential"}, "only cosine and exponential use it"),
)  # fmt: skip


def idle_train(train: TrainSettings, of: str = "train") -> Iterator[str]:
    """One sentence per training setting that was written and does nothing; ``of`` names the section."""
    for section, key, counts, reason in _TRAIN:
        if key in getattr(train, section).model_fields_set and not counts(train):
            yield f"'{of}.{section}.{key}' has no effect: {reason}"
    if train.eval_every > train.epochs:
        yield f"'{of}.eval_every' ({train.eval_every}) exceeds epochs ({train.epochs}): only the last one is validated"


def idle_measure(measure: MeasureSettings) -> Iterator[str]:
    """One sentence per measuring setting that was written although measuring is off."""
    if not measure.enabled:
        for key in sorted(measure.model_fields_set - {"enabled"}):
            yield f"'measure.{key}' has no effect: measure.enabled is false"
