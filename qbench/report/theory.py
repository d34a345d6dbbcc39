"""The answers of a theory suite as tables: one grid per experiment, and every figure in full for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING

from qbench.report.files import write_file
from qbench.report.grid import Column, Entry, Grid
from qbench.report.render import FORMATS, find_format, latex, markdown, terminal
from qbench.report.render.data import for_spreadsheet
from qbench.report.text import MISSING, PLUS_MINUS, clean, counted, decimals_of, significant, tidy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from qbench.theory.findings import Answer
    from qbench.theory.results import ExperimentRecord

_SIGNS = {"equals": "=", "at least": "\N{GREATER-THAN OR EQUAL TO}", "at most": "\N{LESS-THAN OR EQUAL TO}"}
_DRAW = {"terminal": terminal.plain, "md": markdown.render, "latex": latex.render}

COLUMNS = (
    "experiment", "quantity", "setting", "relation", "known", "measured", "standard_error", "tolerance",
    "tolerance_reason", "verdict", "source",
)  # fmt: skip
"""Of the CSV file. These names do not change."""


def theory_grids(records: Sequence[ExperimentRecord]) -> list[Grid]:
    """One grid per experiment: a quantity per row; sources and reasons of tolerances are footnotes."""
    return [_grid(record) for record in records]


def render_theory(records: Sequence[ExperimentRecord], format_name: str) -> str:
    """All answers in one of the table formats. Raises UnknownNameError for another one."""
    name = find_format(format_name).name
    if name == "csv":
        return _csv(records)
    if name == "json":
        return _json(records)
    return _DRAW[name](theory_grids(records))


def verdict_line(records: Sequence[ExperimentRecord]) -> str:
    """``48 of 50 known answers met, 2 MISSED; 6 figures without a verdict``."""
    judged = sum(record.num_judged for record in records)
    missed = sum(record.num_outside for record in records)
    others = sum(len(record.answers) for record in records) - judged
    line = f"{judged - missed} of {judged} known answers met"
    line += f", {missed} MISSED" if missed else ""
    return line + (f"; {counted(others, 'figure')} without a verdict" if others else "")


def _grid(record: ExperimentRecord) -> Grid:
    notes = tuple(dict.fromkeys(_note(answer) for answer in record.answers))
    headings = (
        Column("quantity", right=False, key=True),
        Column("setting", right=False, key=True),
        Column("known answer"),
        Column("measured"),
        Column("tolerance"),
        Column("verdict", right=False),
    )
    changed = ", ".join(f"{name} {value}" for name, value in record.changed.items())
    title = f"{record.suite}: {record.experiment}" + (f" with {changed}" if changed else "")
    rows = tuple(_row(answer, notes.index(_note(answer)) + 1) for answer in record.answers)
    return Grid(clean(title), headings, rows, notes, tuple(_legend(record)))


def _row(answer: Answer, note: int) -> tuple[Entry, ...]:
    is_judged = answer.verdict != "not judged"
    return (
        Entry(clean(answer.quantity), marks=(note,)),
        Entry(clean(answer.setting)),
        Entry(_known(answer)),
        Entry(_measured(answer)),
        Entry(significant(answer.tolerance, 2) if is_judged else MISSING),
        Entry({"within": "within", "outside": "OUTSIDE", "not judged": MISSING}[answer.verdict]),
    )


def _known(answer: Answer) -> str:
    if answer.known is None:
        return MISSING
    sign = _SIGNS.get(answer.relation)
    number = significant(answer.known, 4)
    return f"{sign} {number}" if sign else f"({number})"


def _measured(answer: Answer) -> str:
    """``0.4519 ± 0.0026``: two digits of the standard error, and as many decimals of the value."""
    if answer.error <= 0 or not math.isfinite(answer.error):
        return significant(answer.measured, 5)
    decimals = decimals_of(answer.error, 2)
    if decimals > 8:
        return f"{answer.measured:.5g} {PLUS_MINUS} {answer.error:.1e}"
    return f"{answer.measured:.{decimals}f} {PLUS_MINUS} {answer.error:.{decimals}f}"


def _note(answer: Answer) -> str:
    reason = "" if answer.verdict == "not judged" or answer.reason == "none" else f"; tolerance: {answer.reason}"
    return clean(f"{answer.source}{reason}")


def _legend(record: ExperimentRecord) -> Iterator[str]:
    if record.findings is None:
        yield clean(f"No findings: {record.status}, {record.message}.")
        return
    yield f"{verdict_line([record])}."
    if any(answer.error > 0 for answer in record.answers):
        yield f"{PLUS_MINUS}: standard error, of the difference where the known answer was measured in the same run."
    if any(answer.verdict == "not judged" and answer.known is not None for answer in record.answers):
        yield "In parentheses: a figure of other work, beside which ours stands without a verdict."


def _csv(records: Sequence[ExperimentRecord]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for record in records:
        rows = (_fields(record, answer) for answer in record.answers)
        writer.writerows({name: for_spreadsheet(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _fields(record: ExperimentRecord, answer: Answer) -> dict[str, object]:
    values = (
        record.experiment, answer.quantity, answer.setting, answer.relation, _number(answer.known),
        _number(answer.measured), _number(answer.error), _number(answer.tolerance), answer.reason, answer.verdict,
        answer.source,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _number(value: float | None) -> float | None:
    return tidy(value) if value is not None and math.isfinite(value) else None


def _json(records: Sequence[ExperimentRecord]) -> str:
    content = [
        {
            "suite": record.suite,
            "experiment": record.experiment,
            "options": record.options,
            "seed": record.seed,
            "status": str(record.status),
            "message": record.message,
            "answers": [_fields(record, answer) for answer in record.answers],
        }
        for record in records
    ]
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def publish_theory(records: Sequence[ExperimentRecord], out: Path) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Write ``tables/answers.*`` and ``plots/`` below ``out``; the paths of both. Replaced each time.

    Raises InputError where ``out`` cannot be written.
    """
    from qbench.report.plots.theory import write_pictures

    tables = []
    for form in FORMATS.values():
        path = out / "tables" / f"answers{form.suffix}"
        write_file(path, render_theory(records, form.name))
        tables.append(path)
    return tuple(tables), write_pictures(records, out / "plots")
