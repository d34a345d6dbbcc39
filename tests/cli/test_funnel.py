"""From errors to exit codes, in real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from qbench import __version__
from qbench.cli.funnel import Funnel
from qbench.errors import ContractError, InputError


def python(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload,no-any-return]


MAIN = "import sys; sys.argv[0] = 'qbench'; from qbench.cli import main; main()"


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=Funnel, rich_markup_mode=None)

    @app.callback()
    def root(debug: bool = False) -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(("error", "code"), [(InputError("bad: do this"), 2), (ContractError("bad: do this"), 1)])
def test_errors_are_one_line_and_their_exit_code(error: Exception, code: int) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "error: bad: do this\n")


def test_the_package_is_the_command_too() -> None:
    """Where the script is not on the path: of an environment that was not activated, or under a debugger."""
    done = subprocess.run([sys.executable, "-m", "qbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"qbench {__version__}\n"


def test_what_an_error_quotes_cannot_move_the_cursor() -> None:
    result = CliRunner().invoke(failing(InputError("unknown model '\x1b[2J\u202e\0'\nhere")), ["fail"])
    assert result.stderr == "error: unknown model ' [2J  ' here\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "runs/x"), "Permission denied; change its permissions, or choose"),
        (OSError(36, "File name too long", Path("runs/x")), "File name too long; choose a shorter name"),
        (FileNotFoundError(2, "No such file or directory", b"runs/x"), "No such file or directory; check that it is"),
    ],
)
def test_what_the_file_system_refuses_is_one_line_with_its_name(error: OSError, said: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"error: runs/x cannot be used: {said}")


def test_an_error_of_the_system_without_a_file_is_still_a_fault() -> None:
    assert isinstance(CliRunner().invoke(failing(OSError(5, "Input/output error")), ["fail"]).exception, OSError)


def test_a_message_of_several_lines_is_told_in_one() -> None:
    result = CliRunner().invoke(failing(InputError("plugin does not import: one\n  two\n")), ["fail"])
    assert result.stderr == "error: plugin does not import: one two\n"


def test_a_word_that_would_fill_the_screen_is_cut() -> None:
    result = CliRunner().invoke(failing(InputError(f"unknown suite '{'x' * 100_000}'; known: smoke")), ["fail"])
    assert result.stderr == f"error: unknown suite '{'x' * 500}...'; known: smoke\n"


def test_debug_shows_the_traceback_too() -> None:
    result = CliRunner().invoke(failing(InputError("bad")), ["--debug", "fail"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_interruption_says_that_the_run_continues() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert "the same command continues" in result.stderr


FAULT = (
    """
import sys
import qbench.cli.inventory as inventory
inventory._KINDS["methods"] = lambda: 1 / 0
"""
    + MAIN
)


def test_a_fault_of_qbench_leaves_a_traceback_in_a_file(tmp_path: Path) -> None:
    done = python(FAULT, "list", "methods", env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    found = re.fullmatch(r"error: ZeroDivisionError: division by zero .* the traceback is in (\S+)\n", done.stderr)
    assert found is not None, done.stderr
    assert "ZeroDivisionError" in Path(found[1]).read_text()


def test_a_fault_with_debug_shows_the_traceback() -> None:
    done = python(FAULT, "--debug", "list", "methods")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr


def test_an_encoding_without_the_characters_of_a_table_is_no_fault() -> None:
    arrow = f"from qbench.cli.app import app\napp.command('arrow')(lambda: print('up \\u2191'))\n{MAIN}"
    shown = python(arrow, "arrow", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "up ?\n", "")


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    command = f'"{sys.executable}" -c "{MAIN}" list methods -v | true'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("list plots >&-", 0, ""), ("list plots <&- 2>&-", 0, "accuracy"), ("show gone 2>&-", 2, ""),
        ("show gone <&- >&-", 2, "error: no run 'gone'"), ("list plots <&- >&- 2>&-", 0, ""),
        ("show gone 2>/dev/full", 2, ""),
    ],
)  # fmt: skip
def test_streams_that_are_closed_or_full_change_no_exit_code(words: str, code: int, said: str, tmp_path: Path) -> None:
    command = f'unset PYTHONUNBUFFERED; exec "{sys.executable}" -c "{MAIN}" {words}'
    done = subprocess.run(
        command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout[: len(said) or None]) == (code, said)


def test_workers_inherit_what_stands_in_for_closed_streams() -> None:
    child = "import os; [os.fstat(number) for number in range(3)]"
    program = (
        "import subprocess, sys; from qbench.cli.funnel import _replace_closed_streams as replace; replace(); "
        f"sys.exit(subprocess.call([sys.executable, '-c', '{child}']))"
    )
    command = f'exec "{sys.executable}" -c "{program}" <&- >&- 2>&-'
    assert subprocess.run(command, shell=True, timeout=120, check=False).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("lines", [1, 10_000])  # what fits into the stream's buffer fails at the end
def test_output_that_finds_no_room_is_one_sentence(lines: int) -> None:
    long = f"from qbench.cli.app import app\napp.command('long')(lambda: print('x\\n' * {lines}))\n{MAIN}"
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", long, "long"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the output cannot be written: No space left on device; make room, or choose another place\n"
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list", "methods"], ["list", "plots"]])
def test_light_verbs_do_not_load_torch(arguments: list[str]) -> None:
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); " + MAIN
    done = python(code, *arguments)
    assert done.returncode == 0
    assert done.stderr.strip() == "False"
