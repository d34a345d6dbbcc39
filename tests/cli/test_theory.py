"""The verbs on a run of experiments with known answers, whose records are made up."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from verbs import qbench, refused

from qbench.cell import Status
from qbench.cli.theory import told
from qbench.store import Store
from qbench.store.files import changed_line
from qbench.suite.theory import load_theory_suite
from qbench.theory.results import ExperimentRecord, TheoryStore, manifest_of
from qbench.theory.runner import Event, Started, run_theory

SUITE = "name: mine\nkind: theory\nexperiments:\n  pure_noise:\n  quadratic_chain:\n"


@pytest.fixture
def theory_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TheoryStore:
    """``results/runs/mine`` below the working directory: one experiment with an answer, and one that failed."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SUITE)
    suite = load_theory_suite("mine.yaml")
    store = TheoryStore(Store.open(Path("results/runs/mine"), "mine", create=True))
    manifest = manifest_of(suite, "run1", 1, {"cpu": {"cores": 2}})
    with store.store.lock():
        store.prepare()
        store.store.begin(manifest)
        for key, name in manifest.cells.items():
            store.put(made_up(key, name))
    return store


def made_up(key: str, name: str) -> ExperimentRecord:
    answer = {
        "quantity": "share", "relation": "equals", "known": 0.5, "source": "a book", "measured": 0.5, "error": 0.0,
        "tolerance": 0.0, "reason": "none",
    }  # fmt: skip
    panel = {
        "x_label": "step",
        "y_label": "loss",
        "series": [{"label": "SR", "role": "sr", "x": (1, 10), "y": (1, 2)}],
    }
    pictures = [{"name": name.replace("_", "-"), "title": name, "columns": 1, "panels": [panel]}]
    return ExperimentRecord.model_validate(
        {
            "key": key, "run": "run1", "suite": "mine", "experiment": name, "options": {}, "changed": {}, "seed": 0,
            "status": "ok", "findings": {"answers": [answer], "pictures": pictures}, "wall_s": 1.0, "environment": {},
            "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:01Z",
        }
    )  # fmt: skip


def record_file(run: TheoryStore, name: str) -> Path:
    return next(
        run.path / "experiments" / f"{record.key}.json" for record in run.records() if record.experiment == name
    )


def test_damage_is_told_beside_the_answers(theory_run: TheoryStore) -> None:
    file = record_file(theory_run, "pure_noise")
    file.write_text("{")
    for verb in ("table", "plot"):
        result = qbench(verb, "mine")
        assert result.exit_code == 0, result.output
        (line,) = result.stderr.splitlines()
        assert re.fullmatch(
            rf"damaged: \S+{file.name} \(.*\); its experiment runs again with the next 'qbench run'", line
        )
    shown = qbench("show", "mine").stdout.splitlines()
    assert line in shown
    assert "experiments: 2 planned, 1 run" in shown


def test_the_next_run_keeps_a_damaged_record_aside(theory_run: TheoryStore) -> None:
    file = record_file(theory_run, "pure_noise")
    file.write_text("{")
    events: list[Event] = []
    dies = (sys.executable, "-c", "")
    run_theory(load_theory_suite("mine.yaml"), theory_run.path, observer=events.append, worker=dies)
    kept = theory_run.path / "damaged" / f"experiments-{file.stem}.0.json"
    assert kept.read_text() == "{"
    assert told(events[0]).startswith(f"note: a damaged record is now {kept}, its experiment runs again (")
    assert [event.experiment for event in events if isinstance(event, Started)] == ["pure_noise"]
    assert theory_run.damaged() == []


def test_a_record_that_cannot_be_read_is_never_written_over(theory_run: TheoryStore) -> None:
    file = record_file(theory_run, "pure_noise")
    file.unlink()
    file.mkdir()
    for arguments in (("--dry-run",), ()):
        message = refused("run", "mine.yaml", *arguments)
        assert message == f"{file} cannot be read: Is a directory; make it readable, or move it away"
    assert f"unreadable: {file} cannot be read: Is a directory; make it readable" in qbench("show", "mine").stdout


def test_the_plan_tells_of_damage(theory_run: TheoryStore) -> None:
    file = record_file(theory_run, "pure_noise")
    file.write_text("{")
    lines = qbench("run", "mine.yaml", "--dry-run").stdout.splitlines()
    assert any(line.startswith(f"damaged: {file} (") for line in lines)
    assert file.read_text() == "{"


def test_the_plan_tells_of_records_that_were_edited(theory_run: TheoryStore) -> None:
    theory_run.store.seal()
    file = record_file(theory_run, "pure_noise")
    file.write_text(file.read_text() + "\n")
    lines = qbench("run", "mine.yaml", "--dry-run").stdout.splitlines()
    assert [line for line in lines if line.startswith("changed: ")] == [f"changed: {changed_line(file)}"]


@pytest.mark.parametrize("verb", ["table", "plot"])
def test_a_baseline_means_nothing_to_experiments(theory_run: TheoryStore, verb: str) -> None:
    message = refused(verb, "mine", "--baseline", "fp32")
    assert (
        message
        == "--baseline: results/runs/mine holds a theory run, which compares no methods with a baseline; leave it out"
    )
    assert not (theory_run.path / "plots").exists()


def test_the_ending_of_a_file_gives_its_format(theory_run: TheoryStore) -> None:
    assert qbench("table", "mine", "-o", "answers.json").exit_code == 0
    assert [entry["experiment"] for entry in json.loads(Path("answers.json").read_text())] == [
        "pure_noise",
        "quadratic_chain",
    ]


def test_a_run_whose_experiments_all_failed_has_no_picture_and_says_so(theory_run: TheoryStore) -> None:
    for record in theory_run.records():
        failed = record.model_copy(update={"status": Status.ERROR, "message": "boom", "findings": None})
        with theory_run.store.lock():
            theory_run.put(failed)
    message = "results/runs/mine holds no picture: no experiment ended well; see 'qbench show results/runs/mine'"
    assert refused("plot", "mine") == message


def test_a_standard_error_has_two_digits(theory_run: TheoryStore) -> None:
    file = record_file(theory_run, "pure_noise")
    record = json.loads(file.read_text())
    record["findings"]["answers"][0].update(measured=3.14159, error=0.0996)
    file.write_text(json.dumps(record))
    assert "3.14 \N{PLUS-MINUS SIGN} 0.10 " in qbench("table", "mine").stdout
