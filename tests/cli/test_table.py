"""``qbench table`` on made-up results: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from verbs import qbench, refused

GOLDEN = Path(__file__).parent.parent / "report" / "golden"


def test_table_of_a_run_by_name_and_by_path(finished_run: Path) -> None:
    by_name = qbench("table", "digits")
    assert by_name.exit_code == 0
    assert "98.93 ± 0.15*" in by_name.stdout
    assert qbench("table", str(finished_run)).stdout == by_name.stdout


@pytest.mark.parametrize("name", ["terminal", "md", "csv", "latex", "json"])
def test_table_formats_are_the_renderers(finished_run: Path, name: str) -> None:
    suffix = {"terminal": "txt", "latex": "tex"}.get(name, name)
    result = qbench("table", "digits", "--format", name)
    assert result.stdout == (GOLDEN / f"methods.{suffix}").read_text(encoding="utf-8")


def test_cells_have_one_row_each(finished_run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(qbench("table", "digits", "--cells", "-f", "csv").stdout)))
    assert len(rows) == 15
    assert list(rows[0])[:3] == ["suite", "run", "method"]


def test_output_is_never_overwritten_silently(finished_run: Path, tmp_path: Path) -> None:
    target = tmp_path / "sub" / "table.json"
    assert qbench("table", "digits", "-f", "json", "-o", str(target)).stdout == f"written: {target}\n"
    before = target.read_bytes()
    message = refused("table", "digits", "-f", "csv", "-o", str(target))
    assert message == f"{target} exists already; give another name, or --force to replace it"
    assert target.read_bytes() == before
    assert qbench("table", "digits", "-f", "csv", "-o", str(target), "--force").exit_code == 0
    assert target.read_text().startswith("label,")


@pytest.mark.parametrize("suffix", ["txt", "md", "csv", "tex", "json"])
def test_the_ending_of_a_file_gives_its_format(finished_run: Path, suffix: str) -> None:
    target = Path(f"table.{suffix.upper()}" if suffix == "md" else f"table.{suffix}")
    assert qbench("table", "digits", "-o", str(target)).exit_code == 0
    assert target.read_bytes() == (GOLDEN / f"methods.{suffix}").read_bytes()


def test_a_format_that_is_said_counts_more_than_the_ending(finished_run: Path) -> None:
    assert qbench("table", "digits", "-o", "table.md", "-f", "json").exit_code == 0
    assert json.loads(Path("table.md").read_text())["baseline"] == "fp32"


@pytest.mark.parametrize("name", ["table.xlsx", "table"])
def test_an_ending_that_is_no_formats_is_refused(finished_run: Path, name: str) -> None:
    message = refused("table", "digits", "-o", name)
    assert message.startswith(f"{name}: its ending names no table format; use .txt, .md, .csv, .tex or .json, or say")
    assert not Path(name).exists()
    assert qbench("table", "digits", "-o", name, "-f", "csv").exit_code == 0


def test_another_baseline(finished_run: Path) -> None:
    content = json.loads(qbench("table", "digits", "-f", "json", "--baseline", "bf16").stdout)
    assert content["baseline"] == "bf16"
    assert refused("table", "digits", "--baseline", "bf61") == "no method 'bf61' in this run, did you mean 'bf16'?"


def test_table_refusals(finished_run: Path, tmp_path: Path) -> None:
    assert "did you mean 'digits'" in refused("table", "digit")
    assert "did you mean 'latex'" in refused("table", "digits", "-f", "latx")
    assert "is a directory" in refused("table", "digits", "-f", "md", "-o", str(tmp_path))
    assert "no results directory of qbench" in refused("table", str(tmp_path))


def test_a_run_without_records(finished_run: Path) -> None:
    for folder in ("records", "measures"):
        for file in (finished_run / folder).iterdir():
            file.unlink()
    assert "holds no finished cell yet" in refused("table", "digits")
    assert qbench("show", "digits").exit_code == 0


def test_damage_is_told_beside_the_table(finished_run: Path) -> None:
    record, measure = (next((finished_run / folder).iterdir()) for folder in ("records", "measures"))
    record.write_text("{")
    measure.write_text("{")
    for verb in ("table", "plot"):
        result = qbench(verb, "digits")
        assert result.exit_code == 0
        first, second = result.stderr.splitlines()
        assert re.fullmatch(rf"damaged: \S+{record.name} \(.*\); its cell runs again with the next 'qbench run'", first)
        assert re.fullmatch(rf"damaged: \S+{measure.name} \(.*\); its measurement is made again with .*", second)
    assert set(result.stderr.splitlines()) < set(qbench("show", "digits").stdout.splitlines())


def test_a_folder_of_records_that_is_none_is_told(finished_run: Path) -> None:
    (finished_run / "records").rename(finished_run / "elsewhere")
    (finished_run / "records").write_text("")
    told = "unreadable: results/runs/digits/records cannot be read: Not a directory; put the directory back"
    assert told in qbench("show", "digits").stdout.splitlines()
    assert told in qbench("table", "digits").stderr.splitlines()


def test_a_table_of_an_unfinished_run_says_how_many_cells_are_missing(finished_run: Path) -> None:
    assert "not run yet" not in qbench("table", "digits").stdout
    gone = sorted((finished_run / "records").iterdir())[:2]
    gone[0].unlink()
    assert "not run yet: 1 cell of the plan." in qbench("table", "digits").stdout.splitlines()
    gone[1].unlink()
    for verb in ("show", "table"):
        assert "not run yet: 2 cells of the plan." in qbench(verb, "digits").stdout.splitlines()
    assert json.loads(qbench("table", "digits", "-f", "json").stdout)["notes"] == ["not run yet: 2 cells of the plan"]
