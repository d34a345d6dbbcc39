"""The real worker program: what it imports ahead, and one small suite from end to end."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from qbench.cell import Status
from qbench.engine import CellProgress, run_suite
from qbench.engine.jobs import Job, worker_environment
from qbench.engine.worker import _measure, _settle, _train
from qbench.errors import InputError
from qbench.store import Store
from qbench.suite import load_suite

# The operating system's threads of a process that has imported what a nursery imports.
COUNT_THREADS = """
import importlib, os
from qbench.engine.worker import _PRELOADED
for module in _PRELOADED:
    importlib.import_module(module)
import torch
print(len(os.listdir("/proc/self/task")), torch.cuda.is_initialized())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is imported ahead there")
@pytest.mark.parametrize("threads", [1, 4])
def test_a_nursery_is_safe_to_fork_it_has_one_thread(threads):
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS],
        env=worker_environment(threads),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "False"]


def test_a_suite_from_end_to_end_twice_gives_the_same_numbers(tmp_path, recorder):
    suite = load_suite("smoke")
    first = run_suite(suite, tmp_path / "first", observer=recorder)
    second = run_suite(suite, tmp_path / "second", jobs=1)
    assert (first.exit_code, second.exit_code) == (0, 0), (first.failures, second.failures)
    one, two = (Store.open(tmp_path / name).records() for name in ("first", "second"))
    assert len(one) == len(suite.cells()) > 1
    for a, b in zip(one, two, strict=True):
        assert (a.key, a.cell, a.outcome.status) == (b.key, b.cell, Status.OK)
        assert (a.outcome.top1, a.outcome.loss) == (b.outcome.top1, b.outcome.loss)
        assert a.outcome.fingerprints == b.outcome.fingerprints == one[0].outcome.fingerprints
    assert {event.cell.label for event in recorder.of(CellProgress)} == {record.cell.label for record in one}
    for measure in Store.open(tmp_path / "first").measures():
        (done,) = measure.rounds
        assert done.status is Status.OK
        assert len(done.train_step_s) == suite.measure.steps


def test_a_worker_uses_as_many_threads_as_it_is_given():
    code = "import torch; print(torch.get_num_threads())"
    run = [sys.executable, "-c", code]
    for threads in (1, 2):
        done = subprocess.run(run, env=worker_environment(threads), capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(threads)


@pytest.mark.parametrize("work", [_train, _measure])
def test_a_method_that_was_edited_since_the_run_began_gives_no_result(work):
    cell = load_suite("smoke").cells()[0]
    with pytest.raises(InputError, match="method 'fp32' was edited while the run went on"):
        work(Job(task="train", cell=cell, threads=torch.get_num_threads(), source="of another file"), print)


@pytest.mark.parametrize(("device", "chosen"), [("cpu", []), ("cuda", []), ("cuda:1", ["cuda:1"])])
def test_a_worker_touches_no_gpu_but_its_own(monkeypatch, device, chosen):
    found = []
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    cell = load_suite("smoke").cells()[0].model_copy(update={"device": device})
    _settle(Job(task="train", cell=cell, threads=torch.get_num_threads(), source=""))
    assert found == chosen
