"""From records to the rows of the method table: plain data, no rendering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from qbench.report import fairness
from qbench.report.entries import BASELINE, Entry, Setting, Visit, as_json, baseline_of, check_baseline, gather
from qbench.report.metrics import COST_METRICS, DIFFERENCE, METRICS, TOP1, Metric
from qbench.report.text import counted, tidy
from qbench.stats import CONFIDENCE, paired_difference, summarize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from qbench.cell import MeasureRecord, Record, Status


@dataclass(frozen=True)
class Figure:
    """One number of the table. spread: see :class:`Metric`; None where one value leaves nothing to judge by.

    count: seeds, pairs of seeds, or rounds behind the number. simulated: it is the speed or memory of a simulation.
    best: it is the best of its column among those that may claim so.
    """

    value: float
    spread: float | None
    count: int
    simulated: bool = False
    best: bool = False


@dataclass(frozen=True)
class MethodRow:
    """One method with its options, in one setting. figures: metric name to figure; what was not measured is absent.

    kernels: what computed beside PyTorch while speed was measured. machines: on which it was trained and measured, and
    with which software. seeds: of its cells, however they ended.
    is_comparable, is_beside_baseline: whether its accuracy, and its speed and memory, are compared with the baseline's
    (see :mod:`qbench.report.fairness`). sessions: the qbench runs that measured it.
    """

    setting: Setting
    label: str
    method: str
    options: str
    arithmetic: str
    is_baseline: bool
    is_complete: bool
    statuses: tuple[tuple[Status, int], ...]
    figures: Mapping[str, Figure]
    notes: tuple[str, ...]
    kernels: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    is_comparable: bool = True
    is_beside_baseline: bool = True
    sessions: frozenset[str] = frozenset()

    @property
    def status_text(self) -> str:
        """``2 ok, 1 diverged``; ``not run`` where only speed was measured."""
        return ", ".join(f"{count} {status}" for status, count in self.statuses) or "not run"


@dataclass(frozen=True)
class MethodTable:
    """All rows of a run and what holds for all of them. rows: by setting, the baseline first."""

    suite: str
    baseline: str
    confidence: float
    rows: tuple[MethodRow, ...]
    notes: tuple[str, ...]

    def settings(self) -> Iterator[tuple[Setting, tuple[MethodRow, ...]]]:
        """Each setting with its rows."""
        for setting in dict.fromkeys(row.setting for row in self.rows):
            yield setting, tuple(row for row in self.rows if row.setting == setting)


def method_table(
    records: Iterable[Record],
    measures: Iterable[MeasureRecord],
    *,
    baseline: str = BASELINE,
    confidence: float = CONFIDENCE,
    waiting: int = 0,
) -> MethodTable:
    """The method table of a run: accuracy over seeds, same-seed differences to ``baseline``, speed and memory.

    baseline: label of the method compared with; where the default one was not run, there are no differences and the
    table says so. confidence: of the t-intervals. waiting: cells of the plan that have no record yet. Raises
    UnknownNameError for another baseline that was not run.
    """
    entries = gather(records, measures)
    check_baseline(baseline, entries)
    rows = [method_row(entry, baseline_of(entry, entries, baseline), confidence) for entry in entries]
    suite = entries[0].cell.suite if entries else ""
    marked = [row for setting in dict.fromkeys(e.setting for e in entries) for row in _marked(rows, setting)]
    return MethodTable(suite, baseline, confidence, tuple(marked), tuple(_table_notes(entries, baseline, waiting)))


def method_row(entry: Entry, base: Entry | None, confidence: float) -> MethodRow:
    """One row: every figure that can be had, and a note for every comparison that is refused."""
    figures = {**_accuracy(entry, base, confidence), **_costs(entry, base)}
    return MethodRow(
        setting=entry.setting,
        label=entry.label,
        method=entry.cell.method,
        options=as_json(entry.cell.options),
        arithmetic=entry.arithmetic,
        is_baseline=entry is base,
        is_complete=entry.is_complete,
        statuses=entry.statuses,
        figures=figures,
        notes=tuple(_row_notes(entry, base)),
        kernels=entry.kernels,
        machines=entry.machines,
        seeds=tuple(record.cell.seed for record in entry.records),
        is_comparable=fairness.is_comparable(entry, base),
        is_beside_baseline=fairness.is_beside(entry, base),
        sessions=entry.sessions,
    )


def _accuracy(entry: Entry, base: Entry | None, confidence: float) -> dict[str, Figure]:
    if not entry.top1:
        return {}
    summary = summarize(list(entry.top1.values()))
    figures = {TOP1.name: Figure(summary.mean, summary.sd, summary.n)}
    if base is None or base is entry or fairness.accuracy_refusal(entry, base):
        return figures
    difference = paired_difference(entry.top1, base.top1, confidence)
    if difference is not None:
        figures[DIFFERENCE.name] = Figure(difference.mean, difference.half_width, difference.n)
    return figures


def _costs(entry: Entry, base: Entry | None) -> dict[str, Figure]:
    found = {metric.name: _cost(metric, entry, base) for metric in COST_METRICS}
    return {name: figure for name, figure in found.items() if figure is not None}


def _cost(metric: Metric, entry: Entry, base: Entry | None) -> Figure | None:
    values = _round_values(metric, entry)
    if metric.relative:
        # Round i over round i of the same session: what slows the machine down for a while slows down both.
        theirs = _round_values(metric, base) if base else {}
        values = {visit: values[visit] / theirs[visit] for visit in values if theirs.get(visit)}
    if not values:
        return None
    is_unit = metric.relative and entry is base  # 1 in every round
    has_spread = len(values) > 1 and not is_unit
    half_range = (max(values.values()) - min(values.values())) / 2 if has_spread else None
    return Figure(median(values.values()), half_range, len(values), entry.is_simulated)


def _round_values(metric: Metric, entry: Entry) -> dict[Visit, float]:
    assert metric.of_round is not None
    found = {visit: metric.of_round(measured) for visit, measured in entry.rounds.items()}
    return {visit: value for visit, value in found.items() if value is not None}


def _marked(rows: Sequence[MethodRow], setting: Setting) -> list[MethodRow]:
    """The rows of one setting, with the best figure of each column marked."""
    group = [row for row in rows if row.setting == setting]
    best = {metric.name: _best(metric, group) for metric in METRICS if metric is not DIFFERENCE}
    return [replace(row, figures=_with_marks(index, row, best)) for index, row in enumerate(group)]


def _with_marks(index: int, row: MethodRow, best: Mapping[str, Sequence[int]]) -> dict[str, Figure]:
    return {name: replace(figure, best=index in best.get(name, ())) for name, figure in row.figures.items()}


def _best(metric: Metric, rows: Sequence[MethodRow]) -> list[int]:
    """Which of ``rows`` have the best value among those that may, if there are two different ones to choose from.

    Values are compared as they are written to files: the last bits of two means of the same sum may differ.
    """
    seeds = {seed for row in rows for seed in row.seeds}
    contenders = [index for index, row in enumerate(rows) if _may_be_best(metric, row, seeds)]
    if metric.is_of_session:
        session = fairness.common_session(rows[index].sessions for index in contenders)
        contenders = [index for index in contenders if session in rows[index].sessions]
    values = {index: tidy(rows[index].figures[metric.name].value) for index in contenders}
    if len(set(values.values())) < 2:
        return []
    best = (max if metric.better == "higher" else min)(values.values())
    return [index for index, value in values.items() if value == best]


def _may_be_best(metric: Metric, row: MethodRow, seeds: Collection[int]) -> bool:
    """A method that did not finish all of the ``seeds`` that there are is none to choose; a simulation's speed is not a
    speed, and one of another session none that can be compared.

    An accuracy that is not compared with the baseline's is not compared with its neighbours' either.
    """
    if metric.name not in row.figures or not row.is_complete or len(row.seeds) != len(seeds):
        return False
    if metric.is_cost:
        return row.is_beside_baseline and not row.figures[metric.name].simulated
    return row.is_comparable


def _row_notes(entry: Entry, base: Entry | None) -> Iterator[str]:
    yield from fairness.failures(entry)
    yield from fairness.unseen_options(entry.cell.method, entry.cell.changed, entry.label)
    notes = [fairness.slow_kernels(entry), fairness.crowding(entry)]
    if base is not None and base is not entry:
        notes += [
            fairness.accuracy_refusal(entry, base),
            fairness.speed_refusal(entry, base),
            *fairness.unlike_steps(entry, base),
            fairness.settings_differences(entry, base),
            fairness.environment_differences(entry, base),
        ]
    yield from (note for note in notes if note)


def _table_notes(entries: Sequence[Entry], baseline: str, waiting: int) -> Iterator[str]:
    if waiting:
        yield f"not run yet: {counted(waiting, 'cell')} of the plan"
    with_baseline = {entry.setting for entry in entries if entry.label == baseline}
    for setting in dict.fromkeys(entry.setting for entry in entries):
        if setting not in with_baseline:
            yield f"no {baseline} run on {setting.model}, {setting.dataset}: no differences and no ratios"
