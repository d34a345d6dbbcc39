"""A finished cell is never lost and never run twice, whatever ended the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from qbench.cell import Status
from qbench.engine import CellFinished, CellStarted, Notice, RunStarted
from qbench.errors import StoreError
from qbench.store import Store, keys

# Keys that do not change when someone edits qbench's sources while the tests run.
RUN = """
import json, sys
from pathlib import Path
from qbench.engine import run_suite
from qbench.store import keys
from qbench.suite import load_suite
keys.qbench_source = lambda: "as in the tests"
suite, out, worker, jobs = sys.argv[1:5]
summary = run_suite(load_suite(suite), Path(out), worker=[sys.executable, "-P", worker], jobs=int(jobs))
print(json.dumps([summary.finished, summary.interrupted, summary.exit_code]))
"""


@pytest.fixture(autouse=True)
def steady_keys(monkeypatch):
    monkeypatch.setattr(keys, "qbench_source", lambda: "as in the tests")


# What the system may do with a signal to a process of several threads: give it to another one than the main thread.
SIGNAL_TO_ANOTHER_THREAD = """
import signal, sys, threading, time
from pathlib import Path

def interrupt():
    while not list(Path(sys.argv[2]).glob("logs/*.train.log")):
        time.sleep(0.02)
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
"""


@pytest.fixture
def start(bench):
    """Starts ``qbench run`` of the bench's suite in a process of its own; a test that fails leaves none behind."""
    with ExitStack() as started:

        def start_run(jobs=2, prelude=""):
            arguments = [bench.folder / "made.yaml", bench.out, bench.worker[2], str(jobs)]
            command = [sys.executable, "-c", prelude + RUN, *arguments]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start_run


def finish(process):
    """What the process printed; its pipes are closed."""
    out, err = process.communicate(timeout=60)
    return out, err


def results(bench):
    return list((bench.out / "records").glob("*.json")) if (bench.out / "records").exists() else []


def test_a_second_run_has_nothing_to_do(bench, recorder):
    suite = bench.suite("- ./fakes.py:other\n- ./fakes.py:fake", seeds="[0, 1]")
    assert bench.run(suite).finished == 4
    summary = bench.run(suite, observer=recorder)
    assert (summary.finished, summary.done_before, summary.total) == (0, 4, 4)
    assert len(bench.ran()) == 4
    assert recorder.of(CellStarted) == []


def test_all_methods_of_one_seed_come_before_the_next_seed(bench):
    bench.run(bench.suite("- ./fakes.py:other\n- ./fakes.py:fake", seeds="[3, 1]"), jobs=1)
    assert [(line["seed"], line["label"]) for line in bench.ran()] == [
        (3, "other"),
        (3, "fake"),
        (1, "other"),
        (1, "fake"),
    ]


def test_new_cells_join_the_finished_ones(bench):
    bench.run(bench.suite("- ./fakes.py:other", seeds="[0]"))
    bench.run(bench.suite("- ./fakes.py:other\n- ./fakes.py:fake", seeds="[0, 1]"))
    assert Counter(bench.labels()) == {"other": 2, "fake": 2}


@pytest.mark.parametrize("edited", ["options", "training", "source", "nothing"])
def test_a_label_that_becomes_another_method_keeps_none_of_its_results(bench, edited):
    more = "protocol: paper\nmeasure: {enabled: %s, rounds: 1}"
    ours = "- ./fakes.py:other\n- {method: ./fakes.py:fake, label: ours, options: {does: ok}}"
    bench.run(bench.suite(ours, seeds="[0, 1]", more=more % "true"))
    if edited == "options":
        ours = ours.replace("does: ok", "measured: ok, does: diverge")
    elif edited == "training":
        ours = ours.replace("does: ok}", "does: ok}, because: of tests, train: {epochs: 3}")
    elif edited == "source":
        (bench.folder / "fakes.py").write_text((bench.folder / "fakes.py").read_text() + "# edited\n")
        keys.method_source.cache_clear()  # as in the process of another run
    bench.run(bench.suite(ours, seeds="[2]", more=more % "false"))
    store = Store.open(bench.out)
    seeds = {label: [r.cell.seed for r in store.records() if r.cell.label == label] for label in ("other", "ours")}
    whole = [0, 1, 2]
    assert seeds == {"other": [2] if edited == "source" else whole, "ours": whole if edited == "nothing" else [2]}
    measured = {"options": ["other"], "training": ["other"], "source": [], "nothing": ["other", "ours"]}[edited]
    assert [measure.cell.label for measure in store.measures()] == measured


def test_failed_cells_are_tried_again_and_their_errors_stay(bench, recorder):
    suite = bench.suite("- ./fakes.py:fake: {does: [ok, flaky]}")
    first = bench.run(suite)
    assert [failure.label for failure in first.failures] == ["fake[does=flaky]"]
    bench.runs_file.with_name("runs.jsonl.mended").touch()
    second = bench.run(suite, observer=recorder)
    assert (second.done_before, second.finished, second.exit_code) == (1, 1, 0)
    (started,) = recorder.of(CellStarted)
    assert started.attempt == 2
    (record,) = [r for r in Store.open(bench.out).records() if r.cell.label == "fake[does=flaky]"]
    assert record.outcome.status is Status.OK
    (attempt,) = record.attempts
    assert (attempt.status, attempt.message) == (Status.ERROR, "ValueError: not yet")
    assert "ValueError: not yet" in attempt.traceback


def test_every_failed_attempt_is_kept(bench):
    suite = bench.suite("- ./fakes.py:fake: {does: error}")
    for _ in range(3):
        bench.run(suite)
    (record,) = Store.open(bench.out).records()
    assert [attempt.message for attempt in record.attempts] == ["ValueError: boom"] * 2
    log = next((bench.out / "logs").glob("*.train.log")).read_text()
    assert log.count("--- train") == 3


def test_without_retry_a_failure_stays_and_still_counts(bench):
    suite = bench.suite("- ./fakes.py:fake: {does: error}")
    bench.run(suite)
    summary = bench.run(suite, retry=False)
    assert len(bench.ran()) == 1
    assert [failure.message for failure in summary.failures] == ["ValueError: boom"]
    assert summary.exit_code == 1


def test_a_killed_run_leaves_no_process_and_loses_no_cell(bench, start, waiting, still_alive):
    suite = bench.suite("- ./fakes.py:fake: {does: [ok, slow, hang]}", seeds="[0, 1]")
    run = start()
    waiting(lambda: len(results(bench)) >= 2 and "fake[does=hang]" in bench.labels())
    run.kill()
    finish(run)
    done = {json.loads(file.read_text())["cell"]["label"] for file in results(bench)}
    waiting(lambda: not still_alive([line["pid"] for line in bench.ran()]), seconds=10)
    before = Counter((line["label"], line["seed"]) for line in bench.ran())
    kept = {(r.cell.label, r.cell.seed) for r in Store.open(bench.out).records()}
    assert done == {"fake", "fake[does=slow]"}
    quick = bench.suite("- ./fakes.py:fake: {does: [ok, slow]}", seeds="[0, 1]")
    assert bench.run(quick).exit_code == 0
    after = Counter((line["label"], line["seed"]) for line in bench.ran())
    assert {cell: after[cell] for cell in kept} == {cell: before[cell] for cell in kept}
    assert len(Store.open(bench.out).records()) == 4
    assert suite.name == quick.name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_cleanly_and_goes_on_later(bench, start, waiting, still_alive, number):
    bench.suite("- ./fakes.py:fake: {does: [ok, hang]}")
    run = start()
    waiting(lambda: results(bench) and "fake[does=hang]" in bench.labels())
    run.send_signal(number)
    out, err = finish(run)
    assert json.loads(out) == [1, True, 130]
    assert err == ""
    assert run.returncode == 0
    assert still_alive([line["pid"] for line in bench.ran()]) == []
    (record,) = Store.open(bench.out).records()
    assert record.cell.label == "fake"
    assert bench.run(bench.suite("- ./fakes.py:fake: {does: [ok, slow]}")).done_before == 1


def test_an_interrupt_while_the_nursery_still_imports_ends_at_once(bench, start, waiting, monkeypatch):
    monkeypatch.setenv("FAKE_IMPORT_S", "600")
    bench.suite("- ./fakes.py:other")
    run = start()
    waiting(lambda: list((bench.out / "logs").glob("*.train.log")) if (bench.out / "logs").exists() else [])
    run.send_signal(signal.SIGINT)
    out, err = finish(run)
    assert (json.loads(out)[1:], err) == ([True, 130], "")
    assert bench.ran() == []


def test_an_interrupt_that_another_thread_received_ends_the_run(bench, start, monkeypatch):
    monkeypatch.setenv("FAKE_IMPORT_S", "600")
    bench.suite("- ./fakes.py:other")
    out, err = finish(start(prelude=SIGNAL_TO_ANOTHER_THREAD))
    assert (json.loads(out)[1:], err) == ([True, 130], "")


def test_two_runs_on_one_directory_the_second_is_refused_and_the_first_is_whole(bench, start, waiting):
    suite = bench.suite("- ./fakes.py:fake: {does: [ok, slow]}", seeds="[0, 1, 2]")
    run = start()
    waiting(bench.ran)
    with pytest.raises(StoreError, match=rf"another qbench run \(process {run.pid}, since \d{{4}}-.*Z\) is writing to"):
        bench.run(suite)
    out, err = finish(run)
    assert (json.loads(out), err) == ([6, False, 0], "")
    assert len(Store.open(bench.out).records()) == 6
    assert bench.run(suite).done_before == 6


def test_records_can_be_read_while_the_run_goes_on(bench):
    suite = bench.suite("- ./fakes.py:fake: {does: [ok, slow, diverge]}")
    seen = []

    class Reader:
        def on_event(self, event):
            if isinstance(event, CellFinished):
                seen.append(len(Store.open(bench.out).records()))

    bench.run(suite, observer=Reader(), jobs=1)
    assert seen == [1, 2, 3]


def test_a_damaged_record_is_moved_aside_told_and_made_again(bench, recorder):
    suite = bench.suite("- ./fakes.py:other")
    bench.run(suite)
    (file,) = results(bench)
    file.write_text(file.read_text()[:100])
    assert [damaged.path for damaged in Store.open(bench.out).damaged()] == [file]
    bench.run(suite, observer=recorder)
    assert len(bench.ran()) == 2
    (notice,) = recorder.of(Notice)
    aside = bench.out / "damaged" / f"records-{file.stem}.0.json"
    assert str(aside) in notice.message
    assert len(aside.read_text()) == 100
    assert Store.open(bench.out).damaged() == []


def test_a_changed_record_is_told_and_kept(bench, recorder):
    suite = bench.suite("- ./fakes.py:other")
    bench.run(suite)
    (file,) = (bench.out / "records").iterdir()
    file.write_text(file.read_text().replace('"epochs": ', '"epochs":  '))
    for _ in range(2):
        bench.run(suite, observer=recorder)
        assert Store.open(bench.out).changed() == [file]
    told = [notice.message for notice in recorder.of(Notice)]
    assert [message.startswith(f"{file} is not what a run wrote") for message in told] == [True, True]
    assert len(bench.ran()) == 1
    file.unlink()
    bench.run(suite)
    assert Store.open(bench.out).changed() == []
    assert len(bench.ran()) == 2


def test_a_batch_that_is_larger_than_the_data_is_told_once_before_training(bench, recorder):
    more = "train: {batch_size: 1198}\nmeasure: {batch_size: 1197}"
    bench.run(bench.suite("- ./fakes.py:other", seeds="[0, 1]", more=more), observer=recorder)
    (notice,) = recorder.of(Notice)
    assert notice.message == (
        "'train.batch_size' (1198) exceeds the 1197 training items of digits: every step takes all of them"
    )
    assert recorder.events.index(notice) < recorder.events.index(recorder.of(CellStarted)[0])


def test_another_suite_is_refused_and_nothing_changes(bench):
    bench.run(bench.suite("- ./fakes.py:other"))
    before = (bench.out / "suite.json").read_text()
    renamed = bench.suite("- ./fakes.py:other").model_copy(update={"name": "second"})
    with pytest.raises(StoreError, match="holds results of suite 'made', not of 'second'; choose another directory"):
        bench.run(renamed)
    assert (bench.out / "suite.json").read_text() == before


def test_run_started_tells_what_is_done_and_what_is_to_come(bench, recorder):
    more = "measure: {rounds: 2}"
    bench.run(bench.suite("- ./fakes.py:other", more=more))
    bench.run(bench.suite("- ./fakes.py:other\n- ./fakes.py:fake", more=more), observer=recorder)
    (started,) = recorder.of(RunStarted)
    assert (started.cells, started.done, started.rounds, started.skipped) == (2, 1, 2, 0)


def test_workers_get_their_threads_and_one_allocator_setting(bench):
    bench.run(bench.suite("- ./fakes.py:other"), threads=2)
    (line,) = bench.ran()
    assert (line["threads"], line["trim"]) == ("2", str(2**62))
    (record,) = Store.open(bench.out).records()
    assert record.environment["worker_threads"] == 2
    assert os.environ.get("MALLOC_TRIM_THRESHOLD_") is None
