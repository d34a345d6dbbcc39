"""Whatever becomes of a worker, it is its cell's status, and the other cells go on."""

from __future__ import annotations

import math
import re

import pytest

from qbench.cell import Status
from qbench.store import Store

FAULTS = [
    ("ok", Status.OK, r"^$", ""),
    ("error", Status.ERROR, r"^ValueError: boom$", "ValueError: boom\nand more"),
    ("memory", Status.OOM, r"^no room$", "MemoryError"),
    ("torch_memory", Status.OOM, r"can't allocate memory", "RuntimeError"),
    ("kill", Status.KILLED, r"^ended by SIGKILL; .*memory runs out$", "last words"),
    ("segfault", Status.KILLED, r"^ended by SIGSEGV$", "Segmentation fault"),
    ("exit", Status.ERROR, r"^the worker ended with exit code 3 and no result; see logs/\w+\.train\.log$", ""),
    ("hang", Status.TIMEOUT, r"^stopped after 3 s \(train\.timeout_s\)$", ""),
    ("garbage", Status.ERROR, r"^the worker answered what is no answer: b'hello\\n'; see logs/", ""),
    ("half", Status.KILLED, r"^ended by SIGKILL", ""),
    ("wrong", Status.ERROR, r"^the worker answered another task", ""),
    ("diverge", Status.DIVERGED, r"^$", ""),
    ("grandchild", Status.OK, r"^$", ""),
]


@pytest.fixture(scope="module")
def faulty(make_bench):
    """All faults in one suite, and its summary."""
    bench = make_bench()
    behaviours = ", ".join(does for does, *_ in FAULTS)
    suite = bench.suite(
        f"- ./fakes.py:fake: {{does: [{behaviours}]}}", more="train: {timeout_s: 3}\nmeasure: {enabled: false}"
    )
    return bench, bench.run(suite, jobs=4)


@pytest.mark.parametrize(("does", "status", "message", "traceback"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_the_status_of_its_cell(faulty, does, status, message, traceback):
    bench, _ = faulty
    (record,) = [r for r in Store.open(bench.out).records() if r.cell.options["does"] == does]
    assert record.outcome.status is status
    assert re.search(message, record.outcome.message), record.outcome.message
    assert traceback in record.outcome.traceback


def test_the_summary_counts_results_and_failures(faulty):
    _, summary = faulty
    results = [status for _, status, *_ in FAULTS if status.is_result]
    assert summary.total == len(FAULTS)
    assert summary.finished == len(results)
    assert summary.diverged == 1
    assert len(summary.failures) == len(FAULTS) - len(results)
    assert summary.exit_code == 1
    assert not summary.interrupted


def test_a_failure_names_its_cell_and_log(faulty):
    _, summary = faulty
    (failure,) = [f for f in summary.failures if f.label == "fake[does=kill]"]
    assert (failure.what, failure.model, failure.dataset, failure.seed) == ("train", "mlp", "digits", 0)
    assert "last words" in failure.log.read_text()


def test_what_a_worker_started_ends_with_it(faulty, waiting, still_alive):
    bench, _ = faulty
    (line,) = bench.ran("grandchild")
    waiting(lambda: not still_alive([line["child"]]), seconds=5)


def test_a_diverged_loss_is_kept_as_it_was(faulty):
    bench, _ = faulty
    (record,) = [r for r in Store.open(bench.out).records() if r.outcome.status is Status.DIVERGED]
    assert record.outcome.loss is not None
    assert math.isnan(record.outcome.loss)
    assert record.outcome.diverged_step == 7


def test_a_lost_nursery_costs_no_cell_that_works(bench):
    suite = bench.suite("- ./fakes.py:fake: {does: [orphan, ok, slow]}")
    summary = bench.run(suite, jobs=1)
    assert summary.finished == 3
    assert summary.failures == ()


def test_a_worker_program_that_does_not_start_fails_every_cell_with_its_log(bench):
    bench.worker = (bench.worker[0], "-c", "raise SystemExit('broken installation')")
    summary = bench.run(bench.suite("- ./fakes.py:other"))
    (failure,) = summary.failures
    assert failure.status is Status.KILLED
    assert failure.message == "lost with the process it was forked from; see logs/workers.log"
    assert "broken installation" in (bench.out / "logs" / "workers.log").read_text()
