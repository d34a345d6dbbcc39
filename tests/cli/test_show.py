"""``qbench show`` on made-up results: how a run stands."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from synthetic_records import make_record
from verbs import qbench, refused

from qbench.cli.overview import manifest_grids
from qbench.store import Store


def test_show_tells_how_a_run_stands(finished_run: Path) -> None:
    lines = qbench("show", "digits").stdout.splitlines()
    assert "cells: 15 planned, 13 ok, 1 diverged, 1 oom" in lines
    assert "diverged: graham[bits=4] on resnet8, digits, seed 2, at step 41" in lines
    assert any(line.startswith("failed: wageubn on resnet8, digits, seed 2: oom, out of memory") for line in lines)
    assert "skipped: lazy, it offers integer arithmetic, not simulated" in lines


CONTINUES = "interrupted: the same command continues where it stopped"


def test_show_tells_a_finished_run_from_an_interrupted_one(finished_run: Path) -> None:
    assert CONTINUES not in qbench("show", "digits").stdout
    next((finished_run / "records").iterdir()).unlink()
    assert CONTINUES in qbench("show", "digits").stdout.splitlines()


def test_show_tells_a_live_run_from_one_that_was_killed(finished_run: Path) -> None:
    store = Store.open(finished_run)
    lost, measured = store.records()[0], store.measures()[0]
    (finished_run / "records" / f"{lost.key}.json").unlink()
    training, measuring = (f"{r.cell.label} on resnet8, digits" for r in (lost, measured))
    for key, task, now in [
        (lost.key, "train", f"training now: {training}, seed {lost.cell.seed}"),
        (measured.key, "measure", f"measuring now: {measuring}"),
    ]:
        with store.lock():
            store.log(key, task).touch()
            lines = qbench("show", "digits").stdout.splitlines()
        assert any(re.fullmatch(rf"running since \d{{4}}-\S+Z, process {os.getpid()}", line) for line in lines)
        assert [line for line in lines if " now: " in line] == [now]
        assert CONTINUES not in lines
        store.log(key, task).unlink()
    killed = {"pid": os.getpid(), "started": "2001-01-01T00:00:00Z"}  # long before the process of this number
    (finished_run / "running.json").write_text(json.dumps(killed))
    lines = qbench("show", "digits").stdout.splitlines()
    assert CONTINUES in lines
    assert not any(line.startswith(("running", "training now", "measuring now")) for line in lines)


@pytest.mark.parametrize("elsewhere", [{"host": "node7"}, {"namespace": "pid:[7]"}])
def test_show_does_not_judge_a_run_of_another_host_or_container(finished_run: Path, elsewhere: dict[str, str]) -> None:
    next((finished_run / "records").iterdir()).unlink()
    running = finished_run / "running.json"
    with Store.open(finished_run).lock():
        here = json.loads(running.read_text())
    there = {**here, "pid": 2**22, "started": "2026-01-01T00:00:00Z", **elsewhere}
    running.write_text(json.dumps(there))
    lines = qbench("show", "digits").stdout.splitlines()
    told = (
        f"may be running on {there['host']} since 2026-01-01T00:00:00Z, process {2**22}, which cannot be seen from here"
    )
    assert any(line.startswith(told) for line in lines)
    assert CONTINUES not in lines
    running.write_text(json.dumps({**there, "host": here["host"], "namespace": here["namespace"]}))
    assert CONTINUES in qbench("show", "digits").stdout.splitlines()


def test_show_manifest_of_a_method(finished_run: Path) -> None:
    result = qbench("show", "digits", "--manifest", "banner8")
    assert "conv1" in result.stdout
    assert "8-bit affine per tensor, whole zero point, extremes, nearest" in result.stdout
    assert "did you mean 'banner8'" in refused("show", "digits", "--manifest", "banner")
    assert "got far enough" in refused("show", "digits", "--manifest", "fp32")


def test_show_manifest_of_every_model() -> None:
    models = ("mlp", {}), ("resnet8", {"width": 8})
    records = [make_record("banner8", seed, model=m, model_options=o) for seed in (1, 0) for m, o in models]
    titles = [grid.title.partition(":")[0] for grid in manifest_grids(records, "banner8")]
    assert titles == ["banner8 on mlp, digits, seed 0", "banner8 on resnet8[width=8], digits, seed 0"]


def test_a_changed_record_is_told_beside_its_numbers(finished_run: Path) -> None:
    Store.open(finished_run).seal()
    record, gone = sorted((finished_run / "records").iterdir())[:2]
    record.write_text(record.read_text().replace("98.9", "99.9"))
    gone.unlink()
    lines = qbench("show", "digits").stdout.splitlines()
    told = [f"changed: results/runs/digits/records/{file.name} is {what}" for file, what in
            ((record, "not what a run wrote"), (gone, "gone"))]  # fmt: skip
    assert [sum(line.startswith(sentence) for line in lines) for sentence in told] == [1, 1]
    for verb in (("table", "digits"), ("plot", "digits", "--only", "curves")):
        result = qbench(*verb)
        assert result.exit_code == 0
        assert [line[: len(told[0])] for line in result.stderr.splitlines() if "not what" in line] == told[:1]
