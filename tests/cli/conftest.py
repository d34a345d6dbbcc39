from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from synthetic_records import ENVIRONMENT, small_run

from qbench.store import Store
from qbench.store.manifest import RunManifest, slot


@pytest.fixture
def finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``results/runs/digits`` below the working directory, holding made-up records."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "results" / "runs" / "digits"
    records, measures = small_run()
    store = Store.open(path, "digits", create=True)
    with store.lock():
        store.recover()
        store.begin(
            RunManifest(
                suite="digits", run="run1", resolved={"description": "made up"}, conditions="same",
                cells={record.key: slot(record.cell) for record in records},
                measures={measure.key: slot(measure.cell, seeded=False) for measure in measures},
                skipped={"lazy": "offers integer arithmetic, not simulated"}, environment=ENVIRONMENT,
            )
        )  # fmt: skip
        for record in records:
            store.put(record)
        for measure in measures:
            store.put_measure(measure)
    assert json.loads((path / "suite.json").read_text())["suite"] == "digits"
    return path
