"""SHA256SUMS says which records are not what runs wrote."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest

from qbench.cell import Status
from qbench.store import Store


@pytest.fixture
def sealed(store, record, measure, manifest, cell):
    """A results directory whose run has ended."""
    store.begin(manifest({"a": cell(), "b": cell(seed=1)}))
    for key in ("a", "b"):
        store.put(record(key))
    store.put_measure(measure("a"))
    store.seal()
    return store


def test_every_record_is_listed_as_sha256sum_writes_it(sealed):
    names = ["suite.json", "records/a.json", "records/b.json", "measures/a.json"]
    lines = [f"{hashlib.sha256((sealed.path / name).read_bytes()).hexdigest()}  {name}" for name in names]
    assert (sealed.path / "SHA256SUMS").read_text().splitlines() == lines
    assert sealed.changed() == []


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_checks_it(sealed):
    def check() -> int:
        command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
        return subprocess.run(command, cwd=sealed.path, check=False).returncode

    assert check() == 0
    (sealed.path / "records" / "a.json").write_text("{}")
    assert check() == 1


@pytest.mark.parametrize("name", ["suite.json", "records/a.json", "measures/a.json"])
def test_a_changed_file_is_told_until_a_run_writes_it_again(sealed, record, measure, manifest, cell, name):
    file = sealed.path / name
    file.write_text(file.read_text().replace('"mlp"', '"cnn"').replace('"conditions": "c"', '"conditions": "d"'))
    assert sealed.changed() == [file]
    sealed.seal()
    assert sealed.changed() == [file]
    sealed.begin(manifest({"a": cell(), "b": cell(seed=1)}))
    sealed.put(record("a"))
    sealed.put_measure(measure("a"))
    assert sealed.changed() == []
    sealed.seal()
    assert name in (sealed.path / "SHA256SUMS").read_text()


def test_a_file_that_is_gone_is_told_until_the_next_run_ends(sealed):
    file = sealed.path / "records" / "a.json"
    file.unlink()
    assert sealed.changed() == [file]
    sealed.seal()
    assert sealed.changed() == []


def test_a_run_that_is_killed_leaves_no_wrong_line(sealed, record):
    sealed.put(record("a", Status.DIVERGED))
    sealed.put(record("new"))
    assert Store.open(sealed.path).changed() == []
    sealed.seal()
    assert "records/new.json" in (sealed.path / "SHA256SUMS").read_text()


def test_results_without_the_file_are_results(store, record):
    store.put(record("a"))
    assert store.changed() == []
