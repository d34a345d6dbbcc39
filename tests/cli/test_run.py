"""``qbench run``: its plan, what it refuses, and a small suite from beginning to end."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from verbs import qbench, refused

from qbench.cell import Status
from qbench.cli.conclusion import conclude
from qbench.engine.events import Failure, RunSummary


def test_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = qbench(
        "run", "smoke", "--dry-run", "--seeds", "0-2", "--epochs", "3", "--device", "cpu", "-m", "graham[bits=2,3]"
    )
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "6 cells: 2 methods x 1 model x 1 data set x 3 seeds" in lines
    assert any(line.startswith("train: epochs 3, batch_size 64") for line in lines)
    assert any(line.startswith("  graham[bits=2]: ") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_dry_run_tells_of_damaged_records_and_leaves_them(finished_run: Path) -> None:
    record = next((finished_run / "records").iterdir())
    record.write_text("{")
    lines = qbench("run", "digits", "--dry-run", "--device", "cpu").stdout.splitlines()
    (told,) = [line for line in lines if record.name in line]
    assert told.startswith("note: a record is damaged, its cell runs again (results/runs/digits/records/")
    assert record.read_text() == "{"


def test_dry_run_refuses_records_that_the_run_would_refuse(finished_run: Path) -> None:
    record = next((finished_run / "records").iterdir())
    record.unlink()
    record.mkdir()
    message = refused("run", "digits", "--dry-run", "--device", "cpu")
    assert message.endswith(f"{record.name} cannot be read: Is a directory; make it readable, or move it away")


def test_dry_run_without_measuring() -> None:
    assert "measure: nothing" in qbench("run", "smoke", "--dry-run", "--no-measure", "--device", "cpu").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smok"], "unknown suite 'smok', did you mean 'smoke'?"),
        ([""], "unknown suite ''; known: digits, "),
        (["missing.yaml"], "suite file missing.yaml does not exist"),
        (["smoke", "-m", "baner8"], "did you mean 'banner8'?"),
        (["smoke", "-m", "graham[bits=0]"], "option 'bits'"),
        (["smoke", "-m", "graham[bit=2]"], "did you mean 'bits'?"),
        (["smoke", "-m", "./none.py:x"], "plugin file"),
        (["smoke", "--profile", "quik"], "unknown profile 'quik'"),
        (["smoke", "--seeds", "1,x"], "--seeds: '1,x' is no list of seeds; write 0,1,2 or 0-4"),
        (["smoke", "--seeds", "3-1"], "--seeds"),
        (["smoke", "--seeds", "0-99999999999"], "--seeds: '0-99999999999' names more than 10000 seeds; name fewer"),
        (["smoke", "--seeds", "9" * 5000], "' is no list of seeds; write 0,1,2 or 0-4"),
        (["smoke", "--epochs", "9" * 20], "--epochs: 'train.epochs' must be at most 1000000000, not 9"),
        (["smoke", "--arithmetic", "intger"], "--arithmetic: unknown value 'intger', did you mean 'integer'?"),
        (["smoke", "--device", "tpu"], "unknown device 'tpu'"),
        (["smoke", "--jobs", "0", "--device", "cpu"], "--jobs: must be at least 1"),
        (["smoke", "--jobs", "0", "--device", "cpu", "--dry-run"], "--jobs: must be at least 1"),
        (["rounding_theory", "--jobs", "0", "--dry-run"], "--jobs: must be at least 1"),
        (["smoke", "--jobs", "9" * 20, "--device", "cpu"], "--jobs: must be at most "),
    ],
)
def test_run_refuses_bad_input_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused("run", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_run_refuses_the_results_of_another_suite(finished_run: Path) -> None:
    message = refused("run", "smoke", "--out", str(finished_run), "--device", "cpu")
    assert "holds results of suite 'digits', not of 'smoke'" in message


def test_run_ends_with_table_plots_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qbench.report.plots.undrawable", lambda _: "\N{CJK UNIFIED IDEOGRAPH-65B9}")
    result = qbench("run", "smoke", "--device", "cpu")
    assert result.exit_code == 0, result.output
    out = tmp_path / "results" / "runs" / "smoke"
    assert len(pd.read_parquet(out / "cells.parquet")) == 2
    assert {path.name for path in (out / "tables").iterdir()} == {
        "methods.txt", "methods.md", "methods.csv", "methods.tex", "methods.json", "cells.csv"
    }  # fmt: skip
    assert len(list((out / "plots").iterdir())) == 8
    assert result.stdout.startswith("smoke: resnet8[width=8] on digits (cpu)")
    assert "plots: results/runs/smoke/plots/" in result.stdout
    assert any(line.startswith("no font here has ") for line in result.stdout.splitlines())
    assert "2 of 2 cells done (2 now)" in result.stdout.splitlines()[-1]
    assert "[2/2]" in result.stderr
    again = qbench("run", "smoke", "--device", "cpu")
    assert "2 of 2 cells done (0 now)" in again.stdout.splitlines()[-1]


def test_what_a_failure_says_cannot_move_the_cursor(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failure = Failure("train", "mine", "mlp", "digits", 0, Status.ERROR, "RuntimeError: \x1b[2Jgone", Path("a.log"))
    summary = RunSummary(
        suite="digits", run="r", out=finished_run, total=1, done_before=0, finished=0, diverged=0, measured=0,
        skipped=0, failures=(failure,), interrupted=False, wall_s=1.0,
    )  # fmt: skip
    conclude(summary)
    said = capsys.readouterr().out
    assert "failed: mine on mlp, digits, seed 0: error, RuntimeError:  [2Jgone (log: a.log)\n" in said
    assert "\x1b" not in said
    assert said.endswith("0 of 1 cells done (0 now) in 0:01; 1 cell failed: the same command tries it again\n")


def test_failed_cells_and_failed_rounds_are_counted_apart(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = tuple(
        Failure(what, "mine", "mlp", "digits", seed, Status.OOM, "MemoryError", Path("a.log"))
        for what, seed in (("train", 0), ("train", 1), ("measure", 0))
    )
    summary = RunSummary(
        suite="digits", run="r", out=finished_run, total=3, done_before=0, finished=1, diverged=0, measured=0,
        skipped=0, failures=failures, interrupted=False, wall_s=1.0,
    )  # fmt: skip
    conclude(summary)
    said = capsys.readouterr().out
    assert said.endswith("; 2 cells and 1 measuring round failed: the same command tries them again\n")
