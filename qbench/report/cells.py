"""The results table for pandas: one row per cell, with columns whose names do not change."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from qbench.report.entries import Entry, as_json, gather
from qbench.report.files import write_file
from qbench.report.metrics import energy_j_per_image, infer_images_per_s, train_images_per_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import pandas as pd

    from qbench.cell import Measurement, MeasureRecord, Record

STABLE_COLUMNS = {
    "suite": "string", "run": "string", "method": "string", "options": "string", "arithmetic": "string",
    "model": "string", "dataset": "string", "seed": "Int64", "device": "string", "status": "string",
    "epochs": "Int64", "top1": "float64", "top5": "float64", "loss": "float64", "train_images_per_s": "float64",
    "infer_images_per_s": "float64", "peak_train_bytes": "Int64", "saved_bytes": "Int64", "model_bytes": "Int64",
    "optimizer_bytes": "Int64", "energy_j_per_image": "float64", "wall_s": "float64", "key": "string",
    "init_sha": "string", "order_sha": "string", "eval_sha": "string",
}  # fmt: skip
"""Name to dtype. Accuracy in percent, speeds in images per second, memory in bytes. These names do not change."""

EXTRA_COLUMNS = {
    "label": "string", "model_options": "string", "dataset_options": "string", "train": "string", "because": "string",
    "simulated": "boolean", "kernels": "string", "measured_seed": "Int64", "diverged_step": "Int64",
    "message": "string", "failed_attempts": "Int64", "started": "string", "finished": "string",
}  # fmt: skip

COLUMNS = {**STABLE_COLUMNS, **EXTRA_COLUMNS}


def cells_frame(records: Iterable[Record], measures: Iterable[MeasureRecord]) -> pd.DataFrame:
    """One row per cell with :data:`COLUMNS` in that order, sorted as the method table, then by seed.

    Speed and memory belong to the method and are measured at one seed (``measured_seed``): every seed's row repeats
    them. ``simulated`` says whether they are those of a simulation, ``kernels`` what computed beside PyTorch.
    What was not measured is missing, never 0.
    """
    import pandas as pd

    rows = [_row(entry, record) for entry in gather(records, measures) for record in entry.records]
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return pd.DataFrame({name: pd.array(columns[name], dtype=dtype) for name, dtype in COLUMNS.items()})  # type: ignore[call-overload]


def write_cells(frame: pd.DataFrame, path: Path) -> None:
    """Write ``frame`` as Parquet; readers see the old file or the new one, never half of one."""
    write_file(path, frame.to_parquet(None, index=False))


def _row(entry: Entry, record: Record) -> Mapping[str, object]:
    cell, outcome = record.cell, record.outcome
    shas = outcome.fingerprints.model_dump() if outcome.fingerprints else {}
    return {
        **{
            name: getattr(cell, name)
            for name in ("suite", "method", "arithmetic", "model", "dataset", "seed", "device")
        },
        **{name: getattr(cell, name) for name in ("label", "because")},
        **{name: as_json(getattr(cell, name)) for name in ("options", "model_options", "dataset_options")},
        **{name: getattr(record, name) for name in ("run", "key", "started", "finished")},
        **{name: _finite(getattr(outcome, name)) for name in ("top1", "top5", "loss", "wall_s")},
        **{name: getattr(outcome, name) for name in ("epochs", "diverged_step", "message")},
        "status": str(outcome.status),
        "train": as_json(cell.train.model_dump(mode="json")),
        "failed_attempts": len(record.attempts),
        **shas,
        **_measured(entry),
    }


def _measured(entry: Entry) -> Mapping[str, object]:
    rounds = list(entry.rounds.values())
    if entry.measure is None or not rounds:
        return {}
    return {
        "train_images_per_s": _median(rounds, train_images_per_s),
        "infer_images_per_s": _median(rounds, infer_images_per_s),
        "energy_j_per_image": _median(rounds, energy_j_per_image),
        **{name: _whole(_median(rounds, lambda m, name=name: getattr(m, name))) for name in _BYTES},  # type: ignore[misc]
        "simulated": entry.is_simulated,
        "kernels": ", ".join(entry.kernels),
        "measured_seed": entry.measure.cell.seed,
    }


_BYTES = ("peak_train_bytes", "saved_bytes", "model_bytes", "optimizer_bytes")


def _median(rounds: list[Measurement], of_round: Callable[[Measurement], float | None]) -> float | None:
    known = [value for value in map(of_round, rounds) if value is not None]
    return median(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
