"""What a plot is given: the entries of one setting, in table order, each with its look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING

from qbench.cell import EpochRow, Record, Status
from qbench.report.entries import baseline_of
from qbench.report.fairness import is_comparable
from qbench.report.plots.names import LONGEST_TITLE, shortened
from qbench.report.plots.style import Look, looks
from qbench.report.text import clean
from qbench.stats import Summary, summarize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qbench.report.entries import Entry, Setting
    from qbench.report.metrics import Metric


class NothingToDrawError(Exception):
    """The records hold nothing that this plot shows; the text says what is missing."""


@dataclass(frozen=True)
class Series:
    """One method in one setting, as the plots see it."""

    entry: Entry
    name: str
    look: Look

    @cached_property
    def top1(self) -> Summary | None:
        """Accuracy over the seeds that finished, in percent."""
        return summarize(list(self.entry.top1.values())) if self.entry.top1 else None

    @property
    def failed(self) -> str:
        """``1 of 3 diverged``; empty where every cell finished."""
        total = len(self.entry.records)
        ended = [(status, count) for status, count in self.entry.statuses if status is not Status.OK]
        return ", ".join(f"{count} of {total} {status}" for status, count in ended)

    def cost(self, metric: Metric) -> float | None:
        """Median over rounds of a speed or memory metric."""
        assert metric.of_round is not None
        values = [metric.of_round(measured) for measured in self.entry.rounds.values()]
        known = [value for value in values if value is not None]
        return median(known) if known else None


@dataclass(frozen=True)
class Scene:
    """One setting's series, in table order. baseline: label of the method that differences refer to."""

    suite: str
    setting: Setting
    series: tuple[Series, ...]
    baseline: str

    @property
    def where(self) -> str:
        """``resnet8 on digits``."""
        return shortened([clean(f"{self.setting.model} on {self.setting.dataset}")], LONGEST_TITLE)[0]

    @property
    def seeds(self) -> set[int]:
        """Of all cells, however they ended."""
        return {record.cell.seed for series in self.series for record in series.entry.records}

    def base_of(self, series: Series) -> Entry | None:
        """What the table compares ``series`` with; None where that was not run."""
        return baseline_of(series.entry, [other.entry for other in self.series], self.baseline)

    def is_comparable(self, series: Series) -> bool:
        """Whether the table compares its accuracy with the baseline's, as far as there is one."""
        return is_comparable(series.entry, self.base_of(series))

    @property
    def reference(self) -> Series | None:
        """The baseline, where it has an accuracy and something to be compared with."""
        found = (series for series in self.series if series.entry.label == self.baseline and series.top1)
        return next(found, None) if len(self.series) > 1 else None


def scenes(entries: Sequence[Entry], baseline: str) -> list[Scene]:
    """One scene per setting; a method looks the same in all of them."""
    styles = looks([(entry.cell.method, entry.label) for entry in entries])
    found = []
    for setting in dict.fromkeys(entry.setting for entry in entries):
        group = [entry for entry in entries if entry.setting == setting]
        series = tuple(
            Series(entry, name, styles[entry.label]) for entry, name in zip(group, _names(group), strict=True)
        )
        found.append(Scene(group[0].cell.suite, setting, series, baseline))
    return found


def upper_cluster(series: Sequence[Series]) -> list[Series]:
    """The best methods, where the others lie so far below that differences among the best could not be seen.

    That is: the range of means is above 8 points, and the best (most methods, two or more) span less than a fifth of
    it. Empty where one axis serves all.
    """
    rows = sorted((s for s in series if s.top1), key=_mean, reverse=True)
    span = _mean(rows[0]) - _mean(rows[-1]) if rows else 0.0
    near = [s for s in rows if _mean(rows[0]) - _mean(s) < span / 5]
    return near if span > 8 and len(near) > max(1, len(rows) / 2) else []


def _mean(series: Series) -> float:
    assert series.top1 is not None
    return series.top1.mean


def curve_values(record: Record, column: str) -> Mapping[int, float]:
    """Epoch to value of one column of a record's learning curve; epochs without a finite value are left out."""
    values = {row.epoch: _value(row, column) for row in record.outcome.curve}
    return {epoch: value for epoch, value in values.items() if value is not None and math.isfinite(value)}


def mean_curve(curves: Sequence[Mapping[int, float]]) -> Mapping[int, float]:
    """The mean over ``curves`` at the epochs that all of them have, so that every point averages the same runs."""
    shared = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return {epoch: sum(curve[epoch] for curve in curves) / len(curves) for epoch in sorted(shared)}


def _value(row: EpochRow, column: str) -> float | None:
    value = getattr(row, column)
    return None if value is None else float(value)


def _names(entries: Sequence[Entry]) -> list[str]:
    labels = [entry.label for entry in entries]
    full = [f"{e.label} ({e.arithmetic})" if labels.count(e.label) > 1 else e.label for e in entries]
    return shortened([clean(name) for name in full])
