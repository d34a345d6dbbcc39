"""A results directory: what it refuses, what it keeps, what it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from qbench.cell import Status
from qbench.errors import StoreError
from qbench.store import Store, files
from qbench.store.lock import now
from qbench.store.manifest import conditions
from qbench.suite import load_suite

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


def refused(message: str, path: Path, name: str | None = "s", *, create: bool = True) -> None:
    with pytest.raises(StoreError) as caught, Store.open(path, name, create=create).lock():
        pass
    assert re.fullmatch(message, str(caught.value)), str(caught.value)
    assert caught.value.exit_code == 2


def test_records_come_back_as_they_were(store, record, measure, manifest, cell):
    store.begin(manifest({"a" * 32: cell()}))
    store.put(record("a" * 32))
    store.put_measure(measure("a" * 32))
    again = Store.open(store.path)
    assert again.record("a" * 32) == record("a" * 32)
    assert again.records() == [record("a" * 32)]
    assert again.measures() == [measure("a" * 32)]
    assert again.environment == {"python": "3"}
    assert again.record("b" * 32) is None


def test_a_record_is_written_over_by_the_next_of_its_key(store, record):
    store.put(record("a", Status.ERROR))
    store.put(record("a", Status.OK))
    assert store.record("a").outcome.status is Status.OK
    assert [file.name for file in (store.path / "records").iterdir()] == ["a.json"]


def test_files_are_plain_json_for_any_reader(store, record):
    store.put(record("a"))
    plain = json.loads((store.path / "records" / "a.json").read_text())
    assert plain["cell"]["method"] == "fp32"
    assert plain["outcome"]["top1"] == 90.0


# --- what is refused


def test_before_the_first_run(store):
    assert (store.manifest, store.environment, store.records()) == (None, {}, [])


def test_nothing_to_show(tmp_path):
    refused(
        r"there are no results at .*/none; make some with 'qbench run SUITE --out .*'", tmp_path / "none", create=False
    )
    assert not (tmp_path / "none").exists()


def test_a_directory_that_is_no_results_directory(tmp_path):
    refused(r".* is no results directory of qbench: it has no suite.json", tmp_path, create=False)


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "file").touch()
    refused(r"results directory .*/file cannot be created: File exists; choose another .*", tmp_path / "file")
    refused(r".*/file is a file, not a results directory; name a directory", tmp_path / "file", create=False)


def test_a_directory_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    refused(r"results directory .* cannot be created: Not a directory; .*--out", tmp_path / "file" / "out")


def test_a_directory_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    refused(r".* holds other files \(thesis.tex, ...\); choose a new directory with --out", tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_directory_of_another_suite(store, manifest):
    store.begin(manifest({}, suite="s"))
    refused(r".* holds results of suite 's', not of 't'; choose another directory with --out", store.path, "t")
    assert Store.open(store.path, "s").manifest.suite == "s"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "{",
        lambda text: text.replace('"python"', '"cpu"'),
        lambda text: text.replace('"python": "3"', '"gpus": ["an H100"]'),
        lambda text: text.replace('"cells": {}', '"cells": {"a": "fp32"}'),
        lambda text: text.replace('"cells": {}', '"cells": {"a": "[]"}'),
    ],
)
def test_a_damaged_suite_file_is_named_and_can_be_deleted(store, manifest, record, damage):
    store.begin(manifest({}))
    store.put(record("a"))
    file = store.path / "suite.json"
    file.write_text(damage(file.read_text()))
    refused(
        r".*suite.json is damaged; delete this one file and run the suite again: finished cells are kept", store.path
    )
    (store.path / "suite.json").unlink()
    assert Store.open(store.path, "s", create=True).record("a") == record("a")


def test_a_suite_file_of_another_version_is_left_as_it_is(store, manifest):
    store.begin(manifest({}))
    file = store.path / "suite.json"
    file.write_text(newer := file.read_text().replace('"format": 1', '"format": 2'))
    refused(r".*suite.json was written by another version of qbench; use that one, or choose another .*", store.path)
    assert file.read_text() == newer


def test_a_suite_file_that_cannot_be_read(store):
    (store.path / "suite.json").mkdir()
    refused(r".*suite.json cannot be read: Is a directory", store.path)


@NOT_ROOT
def test_an_unwritable_directory(store):
    store.path.chmod(0o555)
    refused(r"results directory .* cannot be written: Permission denied; choose another .*", store.path)


@NOT_ROOT
def test_an_unreadable_directory(store):
    store.path.chmod(0o000)
    refused(r"results directory .* cannot be read: Permission denied; choose another .*", store.path)


def test_an_unwritable_place(tmp_path):
    refused(
        r"results directory /proc/qbench cannot be created: .*; choose another directory with --out",
        Path("/proc/qbench"),
    )


def test_a_full_disk_is_said(store, record, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    store.put(record("a", Status.ERROR))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"a.json cannot be written: No space left on device; "):
        store.put(record("a", Status.OK))
    assert store.record("a").outcome.status is Status.ERROR
    assert [file.name for file in (store.path / "records").iterdir()] == ["a.json"]


# --- one writer


def test_the_second_writer_is_refused_and_told_who_is_first(store):
    with store.lock():
        refused(
            rf"another qbench run \(process {os.getpid()}, since .*Z\) is writing to .*; wait for it, .*", store.path
        )
    with store.lock():
        pass


def test_a_writer_that_has_not_said_who_it_is_yet(store):
    with store.lock():
        (store.path / "running.json").unlink()
        refused(r"another qbench run is writing to .*; wait for it, .*", store.path)


def test_a_directory_that_another_run_has_only_just_locked_is_no_strangers(tmp_path):
    (tmp_path / "lock").touch()
    assert Store.open(tmp_path, "s", create=True).manifest is None


def test_the_host_of_another_writer_is_named(store):
    with store.lock():
        running = store.path / "running.json"
        running.write_text(json.dumps({**json.loads(running.read_text()), "host": "node7"}))
        refused(r"another qbench run \(process \d+ on node7, since .*Z\) is writing to .*", store.path)


@pytest.mark.parametrize("content", ['{"pid": 1e999, "started": ""}', '{"pid": []}', "[]", "{", ""])
def test_a_damaged_note_of_the_writer_names_nobody(store, content):
    (store.path / "running.json").write_text(content)
    assert store.writer() is None


def test_a_writer_that_ended_and_that_nobody_waited_for_writes_no_more(store):
    with store.lock():
        note = json.loads((store.path / "running.json").read_text())
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # its number stays taken
        (store.path / "running.json").write_text(json.dumps({**note, "pid": ended.pid, "started": now()}))
        assert store.writer() is None


SUITE = """name: s
model: mlp
dataset: digits
seeds: [0]
methods: [fp32]
"""


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ("protocol: paper", True),
        ("train: {epochs: 7}", True),
        ("model: resnet8", True),
        ("dataset: glyphs", True),
        ("train: {timeout_s: 7.0}", False),
        ("seeds: [1, 2]", False),
        ("measure: {enabled: false}", False),
        ("methods: [bf16]", False),
    ],
)
def test_conditions_are_what_all_methods_share(tmp_path, change, is_another):
    key = change.partition(":")[0]
    lines = [line for line in SUITE.splitlines() if not line.startswith(f"{key}:")]
    digests = []
    for text in (SUITE, "\n".join([*lines, change])):
        (tmp_path / "s.yaml").write_text(text)
        digests.append(conditions(load_suite(tmp_path / "s.yaml")))
    assert (digests[0] != digests[1]) is is_another


def test_readers_need_no_lock(store, record, manifest, cell):
    with store.lock():
        store.begin(manifest({"a": cell()}))
        store.put(record("a"))
        assert Store.open(store.path, "s").records() == [record("a")]


# --- which records are shown


def keys(records) -> list[str]:
    return [record.key for record in records]


def test_records_come_in_the_order_of_the_plan_and_no_others(store, record, manifest, cell):
    store.begin(manifest({"b": cell(), "a": cell(seed=1), "missing": cell(seed=2)}))
    for key in ("a", "b", "other"):
        store.put(record(key))
    assert keys(store.records()) == ["b", "a"]


def test_a_later_plan_under_the_same_conditions_joins_the_earlier(store, record, manifest, cell):
    store.begin(manifest({"old": cell()}))
    store.begin(manifest({"new": cell(label="mine")}))
    for key in ("old", "new"):
        store.put(record(key))
    assert keys(store.records()) == ["old", "new"]


def test_of_two_results_of_one_thing_the_later_plans_counts(store, record, manifest, cell):
    store.begin(manifest({"before": cell(), "kept": cell(seed=1)}))
    store.begin(manifest({"after": cell()}))
    for key in ("before", "after", "kept"):
        store.put(record(key))
    assert keys(store.records()) == ["kept", "after"]


def test_other_conditions_replace_the_plan_and_lose_nothing(store, record, manifest, cell):
    for key in ("full", "quick"):
        store.put(record(key))
    store.begin(manifest({"full": cell()}, "30 epochs"))
    store.begin(manifest({"quick": cell()}, "1 epoch"))
    assert keys(store.records()) == ["quick"]
    store.begin(manifest({"full": cell()}, "30 epochs"))
    assert keys(store.records()) == ["full"]


# --- damage


DAMAGE = [
    ("", "Invalid JSON"),
    ('{"key": "a"', "Invalid JSON"),
    ("{}", "key: Field required"),
    ("\0" * 50, "Invalid JSON"),
]


@pytest.mark.parametrize(("content", "reason"), DAMAGE)
def test_a_damaged_record_is_no_record_and_is_told(store, record, manifest, cell, content, reason):
    store.begin(manifest({"a": cell(), "b": cell(seed=1)}))
    store.put(record("b"))
    (store.path / "records" / "a.json").write_text(content)
    assert keys(store.records()) == ["b"]
    (damaged,) = store.damaged()
    assert damaged.path.name == "a.json"
    assert reason in damaged.reason


def test_a_record_that_cannot_be_read_is_left_where_it_is(store, record, monkeypatch):
    store.put(record("a"))
    file = store.path / "records" / "a.json"

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "read_regular", refuse)
        (found,) = store.damaged()
        assert (found.path, found.is_closed, found.reason) == (file, True, "cannot be read: Permission denied")
        with pytest.raises(StoreError, match=r"a.json cannot be read: Permission denied; make it readable, or move"):
            store.recover()
    assert store.record("a") == record("a")
    assert not (store.path / "damaged").exists()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(store, manifest):
    store.begin(manifest({}))
    os.mkfifo(store.path / "records" / "a.json")
    (found,) = store.damaged()
    assert (found.reason, found.is_closed) == ("cannot be read: Not a regular file", True)
    (store.path / "suite.json").unlink()
    os.mkfifo(store.path / "suite.json")
    refused(r".*suite.json cannot be read: Not a regular file", store.path)


def test_a_folder_of_records_that_is_none_is_told(store):
    (store.path / "records").rmdir()
    assert store.damaged() == []
    (store.path / "records").write_text("")
    (found,) = store.damaged()
    assert (found.path, found.reason) == (store.path / "records", "cannot be read: Not a directory")
    assert found.remedy == "put the directory back"


def test_what_is_made_again_is_the_cell_or_the_measurement(store):
    for folder in ("records", "measures"):
        (store.path / folder / "a.json").write_text("{")
    assert [damaged.remedy for damaged in store.recover()] == ["its cell runs again", "its measurement is made again"]


def test_a_record_under_another_key_is_damaged(store, record):
    store.put(record("a"))
    (store.path / "records" / "a.json").rename(store.path / "records" / "b.json")
    assert store.record("b") is None
    assert [damaged.reason for damaged in store.damaged()] == ["it holds the record of another key, a"]


def test_damaged_records_are_moved_aside_and_never_lost(store, measure):
    for text in ("one", "two"):
        (store.path / "records" / "a.json").write_text(text)
        store.recover()
    store.put_measure(measure("m"))
    (store.path / "measures" / "m.json").write_text("three")
    store.recover()
    contents = {file.name: file.read_text() for file in (store.path / "damaged").iterdir()}
    assert contents == {"records-a.0.json": "one", "records-a.1.json": "two", "measures-m.0.json": "three"}
    assert store.damaged() == []


def test_a_damaged_record_takes_no_other_ones_place(store):
    (store.path / "damaged").mkdir()
    (store.path / "damaged" / "records-a.1.json").write_text("kept")
    for text in ("one", "two"):
        (store.path / "records" / "a.json").write_text(text)
        store.recover()
    contents = {file.name: file.read_text() for file in (store.path / "damaged").iterdir()}
    assert contents == {"records-a.0.json": "one", "records-a.1.json": "kept", "records-a.2.json": "two"}


def test_what_a_killed_writer_left_is_cleared_up(store, record):
    (store.path / "records" / ".writing-123-a.json").write_text("{")
    (store.path / ".writing-123-suite.json").write_text("{")
    assert store.recover() == []
    assert list((store.path / "records").iterdir()) == []
    assert not (store.path / ".writing-123-suite.json").exists()
