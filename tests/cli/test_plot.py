"""``qbench plot`` on made-up results: what it writes, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from verbs import qbench, refused


def test_plot_writes_where_it_is_told(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures"
    result = qbench("plot", "digits", "--only", "curves", "--out", str(out))
    assert result.stdout == f"plots: {out}/ (curves.png, curves.svg)\n"
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "curves.svg"]


def test_plot_says_once_which_characters_no_font_has(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbench.report.plots.undrawable", lambda _: "\N{CJK UNIFIED IDEOGRAPH-65B9}")
    lines = qbench("plot", "digits", "--only", "curves", "--only", "accuracy").stdout.splitlines()
    assert [line for line in lines if "font" in line] == lines[-1:]
    assert lines[-1].startswith("no font here has \N{CJK UNIFIED IDEOGRAPH-65B9}: pictures show boxes in their place")


def test_plot_refuses_unknown_names_before_drawing(finished_run: Path, tmp_path: Path) -> None:
    message = refused("plot", "digits", "--only", "curves", "--only", "sped", "--out", str(tmp_path / "figures"))
    assert message == "unknown plot 'sped', did you mean 'speed'?"
    baseline = ("digits", "--baseline", "fp33")
    assert refused("plot", *baseline, "--out", str(tmp_path / "figures")) == refused("table", *baseline)
    assert not (tmp_path / "figures").exists()


def test_a_plot_that_was_asked_for_and_has_nothing_to_show_is_an_error(finished_run: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "figures")
    assert refused("plot", "digits", "--only", "probes", "--out", out).startswith(
        "no plot probes: no probe was recorded"
    )
    beside = qbench("plot", "digits", "--only", "probes", "--only", "curves", "--out", out)
    assert beside.exit_code == 0
    assert "no plot probes: no probe was recorded" in beside.stdout


def test_a_run_that_gives_no_picture_is_an_error(finished_run: Path, tmp_path: Path) -> None:
    for record in (finished_run / "records").iterdir():
        record.unlink()
    assert refused("plot", "digits", "--out", str(tmp_path / "figures")).startswith("no plot ")
