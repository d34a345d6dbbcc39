"""The table of the benchmarks: what was measured, what it is held to, and whether it gets there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Target:
    """What a ratio is held to. bound: at least this, or at most where ``is_ceiling``; aim: what one would like."""

    bound: float
    aim: float
    is_ceiling: bool = False

    def reaches(self, value: float, limit: float) -> bool:
        """Whether ``value`` is on the good side of ``limit``."""
        return value <= limit if self.is_ceiling else value >= limit

    @property
    def sign(self) -> str:
        """The relation, for reading."""
        return "<=" if self.is_ceiling else ">="


@dataclass(frozen=True)
class Row:
    """One line. ratio and interval (95 %): None where nothing was measured, which ``reason`` explains.

    is_held: whether the target is meant for what was measured (this CPU, the full size). detail: absolute figures.
    """

    section: str
    subject: str
    against: str
    target: Target
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""
    is_held: bool = True
    detail: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether the ratio surely misses its bound: its whole interval does."""
        if self.ratio is None:
            return self.is_held and self.reason.startswith("failed")
        edges = self.interval or (self.ratio, self.ratio)
        return self.is_held and not any(self.target.reaches(edge, self.target.bound) for edge in edges)

    @property
    def verdict(self) -> str:
        """How the ratio stands to its target."""
        if self.ratio is None:
            return self.reason
        if not self.is_held:
            return f"not held to it: {self.reason}"
        if self.target.reaches(self.ratio, self.target.aim):
            return "aim reached"
        if self.target.reaches(self.ratio, self.target.bound):
            return "reached"
        return "MISSED" if self.is_missed else "not reached, within the interval"

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        target, ratio = self.target, "-" if self.ratio is None else f"{self.ratio:.3g}x"
        if self.interval is not None:
            ratio += f" ({self.interval[0]:.3g} to {self.interval[1]:.3g})"
        bound, aim = (f"{target.sign} {limit:.3g}x" for limit in (target.bound, target.aim))
        return self.subject, self.against, ratio, bound, aim, self.verdict

    def data(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {**asdict(self), "verdict": self.verdict}


HEADINGS = ("step", "against", "measured (95 %)", "bound", "aim", "verdict")


@dataclass
class BenchTable:
    """The rows of a session, in the order in which they were measured."""

    rows: list[Row] = field(default_factory=list)

    def render(self, width: int | None = None) -> str:
        """As a text table, one section under the other, and the absolute figures behind it."""
        table = RichTable(*HEADINGS, title="Benchmarks", title_justify="left")
        for section in dict.fromkeys(row.section for row in self.rows):
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]")
            for row in self.rows:
                if row.section == section:
                    table.add_row(*row.cells())
        console = Console(width=width)
        with console.capture() as captured:
            console.print(table)
            for row in self.rows:
                if row.detail:
                    console.print(f"{row.subject} against {row.against}: {row.detail}", highlight=False, markup=False)
        return captured.get()

    def save(self, folder: Path, machine: dict[str, Any], level: str) -> Path:
        """Write rows and machine facts as JSON into ``folder``; the file's path.

        It is named after the CPU and the newest instruction set of the kernels: virtual machines give CPUs of
        different generations one name.
        """
        name = re.sub(r"[^a-z0-9]+", "-", f"{machine['cpu']['model']} {level}".lower()).strip("-")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        data = {"machine": machine, "rows": [row.data() for row in self.rows]}
        path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return path


def require(rows: Sequence[Row]) -> None:
    """Raises AssertionError where a ratio surely misses its bound."""
    missed = [f"{row.subject} against {row.against}: {row.verdict}, {row.cells()[2]}" for row in rows if row.is_missed]
    assert not missed, "; ".join(missed)


def is_tiny(config: pytest.Config) -> bool:
    """With ``--benchmark-disable`` everything runs once, on sizes that say nothing about speed."""
    return bool(config.getoption("benchmark_disable", default=False))
