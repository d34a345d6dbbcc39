"""Every verb in one process, on made-up results: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from qbench import __version__, catalog
from qbench.cli.app import app
from qbench.errors import PluginError
from qbench.kernels import backends, cpu
from qbench.plugin import Method
from qbench.registry import Registry
from qbench.store import Store

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


def qbench(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> str:
    """The one line on stderr of a call that must end with exit code 2 and print nothing else."""
    result = qbench(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


VERBS = ("run", "show", "table", "plot", "list", "check", "data sample", "data prepare", "data info", "doctor")


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb: str) -> None:
    result = qbench(*verb.split(), "--help")
    assert result.exit_code == 0
    assert f"qbench {verb}" in result.stdout.partition("Example")[2]


def test_version() -> None:
    result = qbench("--version")
    assert (result.exit_code, result.stdout) == (0, f"qbench {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [("nosuchverb",), ("table",), ("run", "smoke", "--bogus"), ("run", "smoke", "--epochs", "0")]
)
def test_usage_errors(arguments: tuple[str, ...]) -> None:
    result = qbench(*arguments)
    assert result.exit_code == 2
    assert "Error" in result.stderr


@pytest.mark.parametrize(("option", "value"), [("--epochs", "1.5"), ("--epochs", "0"), ("--jobs", "two")])
def test_a_number_that_is_none_is_named(option: str, value: str) -> None:
    result = qbench("run", "smoke", option, value)
    assert result.exit_code == 2
    assert f"'{option}'" in result.stderr
    assert f"not '{value}'" in " ".join(result.stderr.split())


# --- table


def test_table_of_a_run_by_name_and_by_path(finished_run: Path) -> None:
    by_name = qbench("table", "digits")
    assert by_name.exit_code == 0
    assert "98.93 ± 0.15*" in by_name.stdout
    assert qbench("table", str(finished_run)).stdout == by_name.stdout


@pytest.mark.parametrize("name", ["terminal", "md", "csv", "latex", "json"])
def test_table_formats_are_the_renderers(finished_run: Path, name: str) -> None:
    golden = Path(__file__).parent.parent / "report" / "golden"
    suffix = {"terminal": "txt", "latex": "tex"}.get(name, name)
    result = qbench("table", "digits", "--format", name)
    assert result.stdout == (golden / f"methods.{suffix}").read_text(encoding="utf-8")


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


# --- plot


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


# --- show


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


def test_show_manifest_of_a_method(finished_run: Path) -> None:
    result = qbench("show", "digits", "--manifest", "banner8")
    assert "conv1" in result.stdout
    assert "Affine(bits=8)" in result.stdout
    assert "did you mean 'banner8'" in refused("show", "digits", "--manifest", "banner")
    assert "got far enough" in refused("show", "digits", "--manifest", "fp32")


# --- list


def test_list_methods() -> None:
    lines = qbench("list", "methods").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    assert {"fp32", "bf16", "banner8", "wageubn", "graham", "binaryconnect", "sr", "r"} <= set(names)


def test_list_verbose_shows_options_with_defaults() -> None:
    text = qbench("list", "methods", "-v").stdout
    assert "option bits: int from 1 to 16 | 32 = 8" in text
    assert "paper: arXiv:1805.11046" in text


def test_a_plugin_that_fails_in_several_lines_is_listed_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Method:
        raise PluginError("one\ntwo")

    found: Registry[Method] = Registry("method")
    found.add("mine", "here", broken)
    monkeypatch.setattr(catalog, "methods", lambda: found)
    assert qbench("list", "methods").stdout == "mine  cannot be loaded: one two\n"


@pytest.mark.parametrize(
    ("what", "name"), [("models", "resnet20"), ("datasets", "glyphs"), ("suites", "smoke"), ("plots", "curves")]
)
@pytest.mark.parametrize("flags", [(), ("-v",)])
def test_list_other_kinds(what: str, name: str, flags: tuple[str, ...]) -> None:
    result = qbench("list", what, *flags)
    assert result.exit_code == 0
    assert any(line.startswith(f"{name} ") for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("datasets", "option validation_fraction: float above 0.0 and below 1.0 = 0.01"),
        ("experiments", "option minimum: float above 0.0 and below 0.5 = 0.3"),
        ("methods", "option momentum: float from 0.0 to below 1.0 in steps of 0.25 = 0.25"),
    ],
)
def test_bounds_are_listed_as_they_are(what: str, line: str) -> None:
    assert line in map(str.strip, qbench("list", what, "-v").stdout.splitlines())


def test_models_sort_by_their_depth() -> None:
    names = [line.split()[0] for line in qbench("list", "models").stdout.splitlines()]
    assert names.index("resnet8") < names.index("resnet14")


def test_list_unknown_kind() -> None:
    assert refused("list", "method") == "nothing called 'method' to list, did you mean 'methods'?"


# --- run


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
        (["smoke", "--arithmetic", "intger"], "--arithmetic: unknown value 'intger', did you mean 'integer'?"),
        (["smoke", "--device", "tpu"], "unknown device 'tpu'"),
        (["smoke", "--jobs", "0", "--device", "cpu"], "--jobs: must be at least 1"),
    ],
)
def test_run_refuses_bad_input_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused("run", *arguments)
    assert list(tmp_path.iterdir()) == []


NO_DEFAULT = {
    "float = float('nan')": "its default nan cannot be used, input should be a finite number",
    "float = float('-inf')": "its default -inf cannot be used, input should be a finite number",
    "tuple[float, ...] = (1.0, float('inf'))": "its default (1.0, inf) cannot be used, input should be a finite number",
    "Any = float('nan')": "its default nan cannot be used, input should be a finite number",
    "Annotated[int, Interval(ge=5, le=3)] = 4": "its default 4 cannot be used, input should be less than",
    "Annotated[float, Ge(float('nan'))] = 1.0": "its default 1.0 cannot be used, input should be greater",
}


@pytest.mark.parametrize("arguments", [("check",), ("run", "smoke", "-m")])
@pytest.mark.parametrize(("written", "message"), NO_DEFAULT.items())
def test_a_default_that_cannot_be_is_refused_with_its_place(
    arguments: tuple[str, ...], written: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(
        "from typing import Annotated, Any\nfrom annotated_types import Ge, Interval\n"
        "from qbench import Recipe, method\n"
        f"@method('mine', null={{}})\ndef mine(*, step: {written}) -> Recipe:\n    return Recipe()\n"
    )
    said = refused(*arguments, str(file))
    assert f"{file}:4: method 'mine', option 'step': {message}" in said
    assert said.endswith("; change the default or the type")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] in ([], ["__pycache__"])


@pytest.mark.parametrize("arguments", [("check",), ("run", "smoke", "-m")])
def test_an_option_without_a_type_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from qbench import Recipe, method\n@method('mine', null={})\ndef mine(*, step=1):\n    return Recipe()\n"
    )
    said = refused(*arguments, str(file), *(("--dry-run",) if arguments[0] == "run" else ()))
    assert said.endswith(f"method 'mine' ({file}:2): option 'step' has no type; write step: int, for example")


@pytest.mark.parametrize("arguments", [("run", "smoke"), ("run", "rounding_theory"), ("check", "banner8")])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (backends.VARIABLE, "fastest", "QBENCH_KERNELS=fastest: choose one of reference, numba, cpp"),
        (cpu.ISA_VARIABLE, "sse9", "QBENCH_ISA=sse9: unknown; choose one of scalar, "),
        (cpu.LIBRARY_VARIABLE, "none.so", "none.so does not exist: look at QBENCH_NATIVE_LIBRARY"),
    ],
)
def test_kernels_that_are_not_there_are_refused_once_and_nothing_is_written(
    arguments: tuple[str, ...], variable: str, value: str, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, forget_kernels: Callable[[], None],
) -> None:  # fmt: skip
    if variable == cpu.ISA_VARIABLE and not cpu.available():
        pytest.skip(f"the C++ kernels are not here: {cpu.why_not()}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    forget_kernels()
    assert message in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_run_refuses_the_results_of_another_suite(finished_run: Path) -> None:
    message = refused("run", "smoke", "--out", str(finished_run), "--device", "cpu")
    assert "holds results of suite 'digits', not of 'smoke'" in message


def test_run_ends_with_table_plots_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
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
    assert "2 of 2 cells done (2 now)" in result.stdout.splitlines()[-1]
    assert "[2/2]" in result.stderr
    again = qbench("run", "smoke", "--device", "cpu")
    assert "2 of 2 cells done (0 now)" in again.stdout.splitlines()[-1]


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", LONG), ("table", LONG), ("plot", LONG), ("check", f"{LONG}.py"), ("run", f"{LONG}.yaml"),
        ("run", LONG),
        ("data", "info", "imagenet", "--data", LONG), ("data", "sample", "imagenet", "--out", LONG),
        ("table", "digits", "-o", LONG), ("run", "smoke", "--device", "cpu", "--out", LONG),
    ],
)  # fmt: skip
def test_a_name_that_is_too_long_is_refused(arguments: tuple[str, ...], finished_run: Path) -> None:
    assert re.search(rf"{LONG}\S* cannot be (used|read|created): File name too long", refused(*arguments))


def test_a_file_in_the_place_of_a_directory_is_refused(finished_run: Path) -> None:
    Path("notes.md").touch()
    message = refused("list", "methods", "--docs", "notes.md")
    assert message == "notes.md cannot be used: File exists; a directory is needed here, choose another name"
    assert "notes.md" in refused("plot", "digits", "--out", "notes.md")


@NOT_ROOT
@pytest.mark.parametrize("verb", ["show", "table", "plot"])
@pytest.mark.parametrize("closed", ["digits", "."])
def test_results_without_permission_are_refused(finished_run: Path, verb: str, closed: str) -> None:
    folder = finished_run.parent / closed
    folder.chmod(0)
    try:
        assert "Permission denied; change its permissions" in refused(verb, "digits")
    finally:
        folder.chmod(0o755)


# --- data, check, doctor


def test_data_info() -> None:
    lines = qbench("data", "info", "digits").stdout.splitlines()
    assert lines[1] == "10 classes, 1 x 8 x 8"
    assert lines[4].startswith("test: 400 items, fingerprint ")
    assert "did you mean 'digits'" in refused("data", "info", "digit")


def test_data_prepare() -> None:
    assert qbench("data", "prepare", "digits").stdout.startswith("digits is ready: 1197 training items")
    assert "looked in" in refused("data", "prepare", "imagenet", "--data", "nowhere")


def test_data_sample(tmp_path: Path) -> None:
    out = tmp_path / "tree"
    counts = ("--classes", "2", "--train-per-class", "2", "--val-per-class", "1")
    assert qbench("data", "sample", "imagenet", "--out", str(out), *counts).exit_code == 0
    assert len(list(out.rglob("*.JPEG"))) == 6
    assert "never overwrites" in refused("data", "sample", "imagenet", "--out", str(out))
    assert refused("data", "sample", "cifar", "--out", str(out)) == "there is no sample of 'cifar'; known: imagenet"


def test_check_of_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "mine.py"
    folder.mkdir()
    assert refused("check", str(folder)) == f"plugin file {folder} is a directory; name the .py file in it"


def test_check_prints_every_promise_and_fails_on_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from qbench.train import contract

    results = [contract.CheckResult("kept", True, "seen"), contract.CheckResult("broken", False, "not seen")]
    monkeypatch.setattr(contract, "check_method", lambda method, reference: results)
    result = qbench("check", "fp32")
    assert result.exit_code == 1
    assert "  passed  kept: seen\n  FAILED  broken: not seen\n1 of 2 checks failed\n" in result.stdout
    monkeypatch.setattr(contract, "check_method", lambda method, reference: results[:1])
    assert qbench("check", "fp32").exit_code == 0
    assert "did you mean 'fp32'" in refused("check", "fp33")


def test_doctor() -> None:
    result = qbench("doctor")
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    for fact in ("qbench", "cpu", "libraries", "torch on the CPU", "CuPy", "random bits", "cache", "data: digits"):
        assert any(line.startswith(f"{fact} ") for line in lines)
    for fact in ("C++ kernels", "numba kernels", "oneDNN kernels", "CUDA kernels"):
        assert sum(line.startswith(f"{fact} ") for line in lines) == 1


def test_doctor_reports_a_failed_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    from qbench.kernels import random

    def broken() -> str:
        raise AssertionError("bits differ")

    monkeypatch.setattr(random, "self_test", broken)
    result = qbench("doctor")
    assert result.exit_code == 1
    assert "SELF-TEST FAILED: AssertionError: bits differ" in result.stdout
