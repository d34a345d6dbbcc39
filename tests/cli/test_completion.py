"""What the shell completes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qbench.catalog import methods
from qbench.cli.completion import complete_format, complete_method, complete_probe, complete_run, complete_suite
from qbench.errors import PluginError
from qbench.report.render import FORMATS


def test_names() -> None:
    assert complete_suite("dig") == ["digits"]
    assert complete_probe("cos") == ["cosine"]
    assert complete_method("ban") == ["banner8"]
    assert complete_method("nothing") == []


def test_the_options_of_a_method() -> None:
    assert complete_method("graham[b") == ["graham[bits="]
    assert complete_method("banner9[b") == []


def test_a_method_that_does_not_load_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise PluginError(f"entry point '{name}' does not load")

    monkeypatch.setattr(methods(), "get", broken)
    assert complete_method("graham[b") == []


def test_every_format() -> None:
    assert complete_format("") == list(FORMATS)


def test_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete_run("") == []
    for name in ("digits", "other"):
        (tmp_path / "results" / "runs" / name).mkdir(parents=True)
    (tmp_path / "results" / "runs" / "digits" / "suite.json").touch()
    assert complete_run("") == ["digits"]
