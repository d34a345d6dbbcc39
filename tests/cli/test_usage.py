"""The command line as a whole: help, versions, and words, names and files that every verb refuses alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from verbs import NOT_ROOT, qbench, refused

from qbench import __version__
from qbench.kernels import backends, cpu
from qbench.train import replay

VERBS = ("run", "show", "table", "plot", "list", "check", "data sample", "data prepare", "data info", "doctor")


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb: str) -> None:
    result = qbench(*verb.split(), "--help")
    assert result.exit_code == 0
    assert f"qbench {verb}" in result.stdout.partition("Example")[2]


@pytest.mark.parametrize("group", [(), ("data",)])
def test_help_cuts_no_description_at_80_columns(group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    commands = qbench(*group, "--help").stdout.partition("Commands:\n")[2]
    assert commands
    assert "..." not in commands


def test_version() -> None:
    result = qbench("--version")
    assert (result.exit_code, result.stdout) == (0, f"qbench {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "where", "what"),
    [
        (("nosuchverb",), "qbench", "nosuchverb"), (("--bogus",), "qbench", "--bogus"),
        (("table",), "qbench table", "RUN"), (("data", "nosuchverb"), "qbench data", "nosuchverb"),
        (("run", "smoke", "--bogus"), "qbench run", "--bogus"), (("run", "smoke", "more"), "qbench run", "more"),
        (("run", "smoke", "--jobs"), "qbench run", "--jobs"), (("run", "smoke", "-m"), "qbench run", "-m"),
        (("run", "smoke", "--dry-run=yes"), "qbench run", "--dry-run"),
        (("data", "info", "digits", "--data"), "qbench data info", "--data"),
        (("data", "--help=yes"), "qbench data", "--help"), (("--debug=yes",), "qbench", "--debug"),
    ],
)  # fmt: skip
def test_words_that_are_not_understood_are_refused_in_a_line(arguments: tuple[str, ...], where: str, what: str) -> None:
    message = refused(*arguments)
    assert message.startswith(f"{where}: ")
    assert what in message
    assert message.endswith(f"; '{where} -h' shows what it takes")


@pytest.mark.parametrize(("option", "value"), [("--epochs", "1.5"), ("--epochs", "0"), ("--jobs", "two")])
def test_a_number_that_is_none_is_named(option: str, value: str) -> None:
    message = refused("run", "smoke", option, value)
    assert f"'{option}'" in message
    assert f"not '{value}'" in message


@pytest.mark.parametrize("group", [(), ("data",)])
def test_a_group_without_a_verb_shows_its_help(group: tuple[str, ...]) -> None:
    result = qbench(*group)
    assert result.exit_code == 2
    assert "Commands:" in result.output


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", LONG), ("table", LONG), ("plot", LONG), ("check", f"{LONG}.py"), ("run", f"{LONG}.yaml"),
        ("run", LONG),
        ("data", "info", "imagenet", "--data", LONG), ("data", "sample", "imagenet", "--out", LONG),
        ("table", "digits", "-o", f"{LONG}.md"), ("run", "smoke", "--device", "cpu", "--out", LONG),
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


@pytest.mark.parametrize("arguments", [("run", "smoke"), ("run", "rounding_theory"), ("check", "banner8")])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (backends.VARIABLE, "fastest", "QBENCH_KERNELS=fastest: choose one of reference, numba, cpp"),
        (cpu.ISA_VARIABLE, "sse9", "QBENCH_ISA=sse9: unknown; choose one of scalar, "),
        (cpu.LIBRARY_VARIABLE, "none.so", "none.so does not exist: look at QBENCH_NATIVE_LIBRARY"),
        (replay.VARIABLE, "maybe", "QBENCH_REPLAY=maybe: choose on or off"),
        ("QBENCH_KERNEL", "numba", "environment variable QBENCH_KERNEL is unknown, did you mean 'QBENCH_KERNELS'?"),
    ],
)
def test_what_the_environment_asks_for_and_is_not_there_is_refused_once_and_nothing_is_written(
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
