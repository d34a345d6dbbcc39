from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Helpers of these tests, and records that are made up for those of the reports.
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "report"))

from synthetic_records import ENVIRONMENT, small_run

from qbench.kernels import backends, cpu
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


@pytest.fixture
def forget_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Forgets which kernels were chosen and what the environment said of them; forgotten before and after the test."""
    for variable in (backends.VARIABLE, cpu.ISA_VARIABLE, cpu.LIBRARY_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    forget()
    yield forget
    forget()


READ_ONCE = (backends.self_test, backends.why_not, cpu.why_not, cpu.library, cpu.default_isa)
"""Named here because tests put others in their places."""


def forget() -> None:
    backends.CHOSEN.clear()
    for found in READ_ONCE:
        found.cache_clear()
