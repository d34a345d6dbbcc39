from __future__ import annotations

import pytest

from qbench.cell import Cell, Measurement, MeasureRecord, Outcome, Record, Status
from qbench.store import RunManifest, Store
from qbench.store.manifest import slot
from qbench.train.settings import TrainSettings


def make_cell(**changes) -> Cell:
    plain = {
        "suite": "s", "method": "fp32", "label": "fp32", "options": {}, "model": "mlp", "dataset": "digits", "seed": 0,
        "arithmetic": "simulated", "device": "cpu", "train": TrainSettings(),
    }  # fmt: skip
    return Cell(**{**plain, **changes})


def make_record(key: str, status: Status = Status.OK, **changes) -> Record:
    return Record(
        key=key, run="r", cell=make_cell(**changes), outcome=Outcome(status=status, top1=90.0),
        environment={"python": "3"},
        started="2024-01-01T00:00:00Z", finished="2024-01-01T00:00:01Z",
    )  # fmt: skip


def make_measure(key: str, **changes) -> MeasureRecord:
    return MeasureRecord(
        key=key, run="r", cell=make_cell(**changes), rounds=(Measurement(status=Status.OK),), environment={},
        finished="2024-01-01T00:00:01Z",
    )  # fmt: skip


def make_manifest(cells: dict[str, Cell], conditions: str = "c", suite: str = "s") -> RunManifest:
    return RunManifest(
        suite=suite, run="r", resolved={}, conditions=conditions, cells={k: slot(c) for k, c in cells.items()},
        measures={k: slot(c, seeded=False) for k, c in cells.items()}, environment={"python": "3"},
    )  # fmt: skip


@pytest.fixture
def cell():
    return make_cell


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def measure():
    return make_measure


@pytest.fixture
def manifest():
    return make_manifest


@pytest.fixture
def store(tmp_path):
    """A results directory of suite ``s`` that a run may write to."""
    made = Store.open(tmp_path / "out", "s", create=True)
    made.recover()
    return made
