"""What a run would do: its cells, what each method changes, what is skipped and why, what is done already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qbench.catalog import find_method
from qbench.cell import Cell
from qbench.suite.entries import Entry
from qbench.suite.model import Suite
from qbench.train.settings import differences


@dataclass(frozen=True)
class Skipped:
    """A method that will not be run here, and why."""

    label: str
    reason: str


@dataclass(frozen=True)
class PlannedMethod:
    """One row of the plan.

    changed: options that differ from the method's defaults. train_changes: settings that differ from the suite's,
    as {dotted name: (suite's value, this method's value)}. origin: file:line of the method.
    """

    label: str
    method: str
    summary: str
    origin: str
    changed: Mapping[str, object]
    train_changes: Mapping[str, tuple[object, object]]
    because: str | None
    skipped: str | None


@dataclass(frozen=True)
class PlannedCell:
    """A training run of the plan; done is None where the results directory was not asked."""

    cell: Cell
    done: bool | None


@dataclass(frozen=True)
class Plan:
    """All of what ``qbench run --dry-run`` shows."""

    suite: Suite
    device: str
    methods: tuple[PlannedMethod, ...]
    cells: tuple[PlannedCell, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    @property
    def num_done(self) -> int:
        """How many cells have a result already."""
        return sum(planned.done is True for planned in self.cells)


def make_plan(
    suite: Suite, device: str = "cpu", is_done: Callable[[Cell], bool] | None = None, notes: tuple[str, ...] = ()
) -> Plan:
    """The plan of ``suite`` on ``device``; ``is_done`` looks a cell up in a results directory."""
    methods = tuple(_planned(suite, entry, device) for entry in suite.entries)
    return Plan(
        suite=suite,
        device=device,
        methods=methods,
        cells=tuple(PlannedCell(cell, is_done(cell) if is_done else None) for cell in suite.cells(device)),
        skipped=tuple(Skipped(m.label, m.skipped) for m in methods if m.skipped is not None),
        notes=(*suite.notes, *notes),
    )


def _planned(suite: Suite, entry: Entry, device: str) -> PlannedMethod:
    method = find_method(entry.method)
    return PlannedMethod(
        label=entry.label,
        method=entry.method,
        summary=method.summary,
        origin=method.origin,
        changed=method.changed(entry.options),
        train_changes=differences(suite.train, entry.train),
        because=entry.because,
        skipped=suite.reason_to_skip(entry, device),
    )
