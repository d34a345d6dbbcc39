"""Settings that are written down and have no effect: said, never silently ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qbench.cell import Cell, ProbeChoice
from qbench.train.settings import MeasureSettings, TrainSettings

# A written key of the train section, the names that use it, and what to say with another name.
_TRAIN = (
    ("optimizer", "beta2", {"adam"}, "only adam uses it"),
    ("schedule", "milestones", {"step"}, "only the step schedule uses it"),
    ("schedule", "factor", {"step"}, "only the step schedule uses it"),
    ("schedule", "final_factor", {"cosine", "exponential"}, "only the cosine and exponential schedules use it"),
)


def idle_train(train: TrainSettings) -> Iterator[str]:
    """One sentence per training setting that was written and does nothing."""
    for section, key, users, reason in _TRAIN:
        settings = getattr(train, section)
        if key in settings.model_fields_set and settings.name not in users:
            yield f"'train.{section}.{key}' has no effect: {reason}"
    if train.eval_every > train.epochs:
        yield f"'train.eval_every' ({train.eval_every}) exceeds epochs ({train.epochs}): only the last one is validated"


def idle_measure(measure: MeasureSettings) -> Iterator[str]:
    """One sentence per measuring setting that was written although measuring is off."""
    if not measure.enabled:
        for key in sorted(measure.model_fields_set - {"enabled"}):
            yield f"'measure.{key}' has no effect: measure.enabled is false"


def whole_batches(cell: Cell, num_items: int) -> Iterator[str]:
    """One sentence per batch size above the ``num_items`` of the training split: a batch is then all of it."""
    sizes = {"train": cell.train.batch_size, "measure": cell.measure.batch_size if cell.measure.enabled else None}
    for section, size in sizes.items():
        if size is not None and size > num_items:
            have = f"the {num_items} training items of {cell.dataset}"
            yield f"'{section}.batch_size' ({size}) exceeds {have}: every step takes all of them"


def idle_probes(probes: Sequence[ProbeChoice], train: TrainSettings) -> Iterator[str]:
    """One sentence per probe that looks back further than the training is long."""
    for probe in probes:
        k = probe.options.get("k")
        if isinstance(k, int) and k > train.epochs:
            yield f"probe '{probe.name}' compares nothing with {k} epochs ago: training takes {train.epochs}"
