"""What an experiment leaves on disk: one file each, in a results directory of the same form as every suite's.

suite.json               which suite, and which experiments belong to its last plan
experiments/<key>.json   their records
logs/<key>.theory.log    what an experiment's process printed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from qbench.atomic import remove_leftovers
from qbench.cell import Keyed, Status
from qbench.environment import hardware_key, library_key
from qbench.store import Damaged, RunManifest, Store
from qbench.store.files import damaged_in, load, refuse_closed, told
from qbench.store.keys import digest, kernels_in_use, qbench_source
from qbench.suite.theory import PlannedExperiment, TheorySuite
from qbench.theory.findings import Answer, Findings
from qbench.variables import variables_of_numbers

_FOLDER = "experiments"
_HERE = Path(__file__).resolve().parent
# These run experiments and keep what they find; nothing in them can change a number.
_NOT_COMPUTING = {"results.py", "runner.py", "worker.py", "task.py"}


class ExperimentRecord(Keyed):
    """One experiment's end. findings: None where it failed."""

    run: str
    suite: str
    experiment: str
    options: dict[str, Any]
    changed: dict[str, Any]
    seed: int
    status: Status
    message: str = ""
    traceback: str = ""
    findings: Findings | None = None
    wall_s: float
    environment: dict[str, Any]
    started: str
    finished: str

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Its answers; none where it failed."""
        return self.findings.answers if self.findings is not None else ()

    @property
    def num_outside(self) -> int:
        """How many known answers were missed."""
        return sum(answer.verdict == "outside" for answer in self.answers)

    @property
    def num_judged(self) -> int:
        """How many known answers there are."""
        return sum(answer.verdict != "not judged" for answer in self.answers)


class TheoryStore:
    """The records below one directory."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def path(self) -> Path:
        """The results directory."""
        return self.store.path

    def prepare(self) -> list[Damaged]:
        """Make the folders, clear up after a killed writer, and move damaged records aside, so that they are made
        again; only while the lock is held. Raises StoreError where one cannot be read.
        """
        self.store.recover()
        found = self.damaged()
        refuse_closed(found)
        with told(f"results directory {self.path} cannot be written"):
            (self.path / _FOLDER).mkdir(exist_ok=True)
            remove_leftovers(self.path / _FOLDER)
        return self.store.set_aside(found)

    def damaged(self) -> list[Damaged]:
        """Files that should hold an experiment's record and do not, and what cannot be read."""
        return list(damaged_in(self.path / _FOLDER, ExperimentRecord, "its experiment runs again"))

    def record(self, key: str) -> ExperimentRecord | None:
        """The record of ``key``; None where there is none, or none that can be read."""
        return load(self.path / _FOLDER / f"{key}.json", ExperimentRecord)

    def put(self, record: ExperimentRecord) -> None:
        """Write a record, over an earlier one of the same key. It is on disk when this returns."""
        self.store.write(f"{_FOLDER}/{record.key}.json", json.loads(record.model_dump_json()))

    def records(self) -> list[ExperimentRecord]:
        """The records of the last plan that exist by now, in its order."""
        manifest = self.store.manifest
        found = (self.record(key) for key in manifest.cells) if manifest else ()
        return [record for record in found if record is not None]

    def log(self, key: str) -> Path:
        """Where an experiment's output is kept."""
        return self.store.log(key, "theory")


def is_theory(store: Store) -> bool:
    """Whether a results directory is of a theory suite."""
    manifest = store.manifest
    return manifest is not None and manifest.resolved.get("kind") == "theory"


def manifest_of(suite: TheorySuite, run: str, threads: int, environment: dict[str, Any]) -> RunManifest:
    """The plan of a run, as suite.json holds it."""
    keys = {experiment_key(experiment, suite.seed, threads): experiment.name for experiment in suite.experiments}
    resolved = suite.model_dump(mode="json")
    # Another seed or other options make another plan: nothing of the earlier one is shown beside it.
    return RunManifest(
        suite=suite.name,
        run=run,
        resolved=resolved,
        conditions=digest({"theory": resolved}),
        cells=keys,
        measures={},
        environment=environment,
    )


def experiment_key(experiment: PlannedExperiment, seed: int, threads: int) -> str:
    """The key of a record: equal keys mean that running again would find the same."""
    return digest(
        {
            "experiment": experiment.name,
            "options": experiment.options,
            "seed": seed,
            "theory": theory_source(),
            "qbench": qbench_source(),
            "libraries": library_key("cpu"),
            "hardware": hardware_key("cpu"),
            "kernels": kernels_in_use(),
            "variables": variables_of_numbers(),
            "threads": threads,
        }
    )


@cache
def theory_source() -> str:
    """SHA-256 over the sources of the experiments, and of the built-in methods that some of them train."""
    methods = Path(str(resources.files("qbench.methods")))
    files = [file for file in _HERE.rglob("*.py") if file.name not in _NOT_COMPUTING]
    return _digest_of([*files, *methods.glob("*.py")])


def _digest_of(files: Iterable[Path]) -> str:
    content = hashlib.sha256()
    for name, file in sorted((file.name, file) for file in files):
        content.update(f"{name}\0".encode())
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()
