"""CSV and JSON: every figure in full, for programs."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from qbench.report.metrics import METRICS, Metric
from qbench.report.text import tidy

if TYPE_CHECKING:
    import pandas as pd

    from qbench.report.aggregate import Figure, MethodRow, MethodTable


_FORMULA = ("=", "+", "-", "@", "\t")


def methods_csv(table: MethodTable) -> str:
    """One line per method. Each metric has three columns: its name, its spread, and ``_n``, the values behind it."""
    rows = [{**_identity(row), **_figures(row), "notes": "; ".join(row.notes)} for row in table.rows]
    names = [*_IDENTITY, *(name for metric in METRICS for name in _names(metric)), "notes"]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: for_spreadsheet(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def methods_json(table: MethodTable) -> str:
    """The table with its columns' units and directions, as one JSON object."""
    content = {
        "suite": table.suite,
        "baseline": table.baseline,
        "confidence": table.confidence,
        "columns": [_column(metric, table) for metric in METRICS],
        "rows": [_row(row) for row in table.rows],
        "notes": list(table.notes),
    }
    return _dump(content)


def cells_csv(frame: pd.DataFrame) -> str:
    """One line per cell; what was not measured is empty."""
    texts = {str(name): frame[name].map(for_spreadsheet) for name in frame if frame[name].dtype == "string"}
    return frame.assign(**texts).to_csv(index=False, lineterminator="\n")


def cells_json(frame: pd.DataFrame) -> str:
    """A list of objects, one per cell; what was not measured is null."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    return _dump([{name: _native(value) for name, value in row.items()} for row in rows])


def for_spreadsheet(value: object) -> object:
    """A text as a cell of CSV that any reader takes for that text; what is no text as it is.

    Its line ends are line feeds: only they are put in quotes, and a reader takes a carriage return for a new row.
    Behind an apostrophe, as spreadsheets write it themselves, what they would take for a formula is a text.
    """
    if not isinstance(value, str):
        return value
    unbroken = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{unbroken}" if unbroken.startswith(_FORMULA) else unbroken


_IDENTITY = ("label", "method", "options", "arithmetic", "model", "dataset", "device", "is_baseline", "status")


def _identity(row: MethodRow) -> dict[str, object]:
    values = (
        row.label, row.method, row.options, row.arithmetic, row.setting.model, row.setting.dataset,
        row.setting.device, row.is_baseline, row.status_text,
    )  # fmt: skip
    return dict(zip(_IDENTITY, values, strict=True))


def _names(metric: Metric) -> tuple[str, ...]:
    names = (metric.name, f"{metric.name}_{metric.spread}", f"{metric.name}_n")
    return (*names, f"{metric.name}_simulated") if metric.is_cost else names


def _figures(row: MethodRow) -> dict[str, object]:
    filled: dict[str, object] = {}
    for metric in METRICS:
        figure = row.figures.get(metric.name)
        if figure is not None:
            values = (tidy(figure.value), _tidy(figure.spread), figure.count, figure.simulated)
            filled.update(zip(_names(metric), values, strict=False))
    return filled


def _column(metric: Metric, table: MethodTable) -> dict[str, object]:
    def filled(text: str) -> str:
        return text.format(baseline=table.baseline, confidence=f"{table.confidence:.0%}")

    return {
        "name": metric.name,
        "unit": filled(metric.unit),
        "better": metric.better,
        "spread": metric.spread,
        "description": filled(metric.description),
    }


def _row(row: MethodRow) -> dict[str, object]:
    return {
        **_identity(row),
        "options": json.loads(row.options),
        "statuses": {str(status): count for status, count in row.statuses},
        "figures": {metric.name: _figure(row.figures[metric.name]) for metric in METRICS if metric.name in row.figures},
        "kernels": list(row.kernels),
        "machines": list(row.machines),
        "notes": list(row.notes),
    }


def _figure(figure: Figure) -> dict[str, object]:
    return {
        "value": tidy(figure.value),
        "spread": _tidy(figure.spread),
        "n": figure.count,
        "simulated": figure.simulated,
        "best": figure.best,
    }


def _tidy(value: float | None) -> float | None:
    return None if value is None else tidy(value)


def _native(value: object) -> object:
    return value.item() if hasattr(value, "item") else value


def _dump(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
