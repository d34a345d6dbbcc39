"""Records gathered by what a table row is about: one method with its options, on one model, data set and device."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from qbench.cell import Cell, Measurement, MeasureRecord, Record, Status
from qbench.errors import UnknownNameError
from qbench.registry import nearest
from qbench.report.machine import machine_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BASELINE = "fp32"

Visit = tuple[str, int]
"""One visit of a measuring pass: the qbench run, and the round within it."""


@dataclass(frozen=True, order=True)
class Setting:
    """What methods are compared on; model and dataset carry their options, as in ``resnet8[width=32]``."""

    model: str
    dataset: str
    device: str


@dataclass(frozen=True)
class Entry:
    """All that was run of one method in one setting.

    records: one per seed, by rising seed. measure: the speed and memory pass, if there is one.
    """

    setting: Setting
    label: str
    arithmetic: str
    records: tuple[Record, ...]
    measure: MeasureRecord | None

    @property
    def cell(self) -> Cell:
        """Any one of the entry's cells, for what all of them share."""
        return self.records[0].cell if self.records else self._measured().cell

    def _measured(self) -> MeasureRecord:
        assert self.measure is not None, "an entry has a record or a measurement"
        return self.measure

    @cached_property
    def top1(self) -> Mapping[int, float]:
        """Seed to top-1 accuracy in percent, of the cells that trained to the end."""
        finished = (record for record in self.records if record.outcome.status is Status.OK)
        values = {record.cell.seed: record.outcome.top1 for record in finished}
        return {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}

    @property
    def statuses(self) -> tuple[tuple[Status, int], ...]:
        """How many cells ended how, in the order of :class:`Status`."""
        ended = [record.outcome.status for record in self.records]
        return tuple((status, ended.count(status)) for status in Status if status in ended)

    @property
    def is_complete(self) -> bool:
        """Whether every cell that was run gave an accuracy."""
        return bool(self.records) and len(self.top1) == len(self.records)

    @cached_property
    def rounds(self) -> Mapping[Visit, Measurement]:
        """The measured rounds that succeeded, by session and number, in order."""
        measured = self.measure.rounds if self.measure else ()
        return {(r.run, r.round): r for r in measured if r.status is Status.OK}

    @property
    def sessions(self) -> frozenset[str]:
        """The qbench runs in which it was measured with success."""
        return frozenset(run for run, _ in self.rounds)

    @property
    def is_simulated(self) -> bool:
        """Whether speed and memory are those of a simulation."""
        return any(measured.simulated for measured in self.rounds.values())

    @property
    def machines(self) -> tuple[str, ...]:
        """Where it was trained and measured, and with which software: one line each."""
        made = (*self.records, *((self.measure,) if self.measure else ()))
        return tuple(dict.fromkeys(machine_line(record.environment) for record in made))

    @property
    def kernels(self) -> tuple[str, ...]:
        """What computed beside PyTorch while it was measured, such as ``cpp (avx2)``."""
        return tuple(dict.fromkeys(name for measured in self.rounds.values() for name in measured.kernels))

    @property
    def is_replayed(self) -> bool | None:
        """Whether timed training steps came from a tape; None where nothing was measured, or that was not noted."""
        return _is_any([measured.replayed for measured in self.rounds.values()])

    @property
    def infers_replayed(self) -> bool | None:
        """The same of timed inference batches."""
        return _is_any([measured.infer_replayed for measured in self.rounds.values()])


def _is_any(counts: Sequence[int | None]) -> bool | None:
    """Whether one of the counts is more than 0; None where none is known."""
    known = [count > 0 for count in counts if count is not None]
    return any(known) if known else None


def check_baseline(baseline: str, entries: Sequence[Entry]) -> None:
    """Raises UnknownNameError for a baseline that was not run, unless it is the usual one: that is left out."""
    labels = {entry.label for entry in entries}
    if baseline != BASELINE and baseline not in labels:
        raise UnknownNameError(f"no method '{baseline}' in this run{nearest(baseline, sorted(labels))}")


def gather(records: Iterable[Record], measures: Iterable[MeasureRecord]) -> list[Entry]:
    """The entries of a run, in table order: by setting, the baseline first, then by label.

    Where a seed was run more than once (with other settings, into the same directory), the latest run counts.
    """
    latest = {(_identity(r.cell), r.cell.seed): r for r in sorted(records, key=lambda r: (r.finished, r.key))}
    passes = {_identity(m.cell): m for m in sorted(measures, key=lambda m: (m.finished, m.key))}
    by_row: dict[tuple[Setting, str, str], list[Record]] = {identity: [] for identity in passes}
    for record in latest.values():
        by_row.setdefault(_identity(record.cell), []).append(record)
    entries = [
        Entry(*identity, tuple(sorted(rows, key=lambda r: r.cell.seed)), passes.get(identity))
        for identity, rows in by_row.items()
    ]
    return sorted(entries, key=_table_order)


def baseline_of(entry: Entry, entries: Iterable[Entry], baseline: str = BASELINE) -> Entry | None:
    """What ``entry`` is compared with: the baseline of its setting, in its own arithmetic if there are two."""
    candidates = [other for other in entries if other.label == baseline and other.setting == entry.setting]
    return min(candidates, key=lambda other: other.arithmetic != entry.arithmetic, default=None)


def named(name: str, options: Mapping[str, object]) -> str:
    """``resnet8[width=32]``; the bare name without options."""
    inside = ",".join(f"{key}={value}" for key, value in sorted(options.items()))
    return f"{name}[{inside}]" if inside else name


def as_json(value: object) -> str:
    """Compact JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def natural(label: str) -> tuple[int | str, ...]:
    """A sort key that puts ``bits=8`` before ``bits=16``: text and numbers in turn."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", label))


def _identity(cell: Cell) -> tuple[Setting, str, str]:
    model, dataset = named(cell.model, cell.model_options), named(cell.dataset, cell.dataset_options)
    return Setting(model, dataset, cell.device), cell.label, cell.arithmetic


def _table_order(entry: Entry) -> tuple[object, ...]:
    family = {"fp32": 0, "bf16": 1}.get(entry.cell.method, 2)
    return entry.setting, family, natural(entry.label), entry.arithmetic
