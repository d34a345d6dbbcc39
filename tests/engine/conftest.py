from __future__ import annotations

import json
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from qbench.engine import run_suite
from qbench.suite import Suite, load_suite

HERE = Path(__file__).parent

PLUGIN = '''
from typing import Literal
from qbench import Recipe, method

@method("fake", null={})
def fake(*, does: str = "ok", measured: str = "ok") -> Recipe:
    """Does as it is told."""
    return Recipe()

@method("other", null={})
def other() -> Recipe:
    """Always succeeds."""
    return Recipe()

@method("whole", null={})
def whole() -> Recipe:
    """Simulated arithmetic only."""
    return Recipe(arithmetics=("simulated",))
'''


class Recorder:
    """An observer that keeps all events."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def on_event(self, event: object) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


class Bench:
    """A suite made for a test, a results directory, and the fake worker that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.runs_file = folder / "runs.jsonl"
        self.worker = (sys.executable, "-P", str(HERE / "fake_worker.py"))
        (folder / "fakes.py").write_text(PLUGIN)

    def suite(self, methods: str, seeds: str = "[0]", more: str = "measure: {enabled: false}") -> Suite:
        text = f"name: made\nmodel: mlp\ndataset: digits\nseeds: {seeds}\n{textwrap.dedent(more)}\nmethods:\n"
        text += textwrap.indent(textwrap.dedent(methods).strip(), "  ") + "\n"
        file = self.folder / "made.yaml"
        file.write_text(text)
        return load_suite(file)

    def run(self, suite: Suite, **options):
        return run_suite(suite, self.out, worker=self.worker, **options)

    def ran(self, task: str = "train") -> list[dict]:
        """What workers took down, in the order of their starts."""
        if not self.runs_file.exists():
            return []
        lines = [json.loads(line) for line in self.runs_file.read_text().splitlines()]
        return [line for line in lines if line["task"] == task]

    def labels(self, task: str = "train") -> list[str]:
        return [line["label"] for line in self.ran(task)]


def wait_until(condition, seconds: float = 60.0) -> None:
    """Block until ``condition()`` holds; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pids) -> list[int]:
    """Those of the processes that still run."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def make_bench(tmp_path_factory):
    """Makes one bench for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:

        def make() -> Bench:
            made = Bench(tmp_path_factory.mktemp("bench"))
            patch.setenv("FAKE_RUNS", str(made.runs_file))
            return made

        yield make


@pytest.fixture
def bench(tmp_path, monkeypatch):
    made = Bench(tmp_path)
    monkeypatch.setenv("FAKE_RUNS", str(made.runs_file))
    return made


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def waiting():
    return wait_until


@pytest.fixture
def still_alive():
    return alive
