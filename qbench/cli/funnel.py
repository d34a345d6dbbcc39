"""The one way from errors to exit codes."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import tempfile
import traceback
from typing import Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from qbench import __version__
from qbench.errors import InputError, QbenchError
from qbench.report.text import clean

_ADVICE: dict[int | None, str] = {
    errno.EACCES: "change its permissions, or choose another place",
    errno.EEXIST: "a directory is needed here, choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "make room, or choose another place",
    errno.ENOTDIR: "a directory is needed here, choose another name",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose another place",
}
"""What to do about an error of the file system."""

_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What the system says of a stream that takes no more; such an error names no file."""

_TOO_LONG = re.compile(r"([^\s']{500})[^\s']+")
"""A word that would fill the screen, quoted from what a user wrote. A path that can be is seldom longer."""

INTERRUPTED = 130
"""What shells report for Ctrl-C."""

_UsageError: Any = typer.BadParameter.__base__
"""Every complaint about the words of a command line. Typer does not name it, and has its own copy of click or not."""


class _Placed:
    """What has words of its own: a complaint about any of them knows whose they are, also where the parser forgets."""

    def parse_args(self, ctx: Any, args: Any) -> Any:
        """Read the words."""
        try:
            return super().parse_args(ctx, args)  # type: ignore[misc]
        except _UsageError as error:
            error.ctx = error.ctx or ctx
            raise


class Verb(_Placed, TyperCommand):
    """A command."""


class Verbs(_Placed, TyperGroup):
    """A group of commands within the command line."""


class Funnel(Verbs):
    """The command group that turns errors into one line on stderr and their exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Read the command line and run its verb."""
        try:
            code = super().main(*arguments, **{**options, "standalone_mode": False})
        except _UsageError as error:
            code = _refused(error)
        raise SystemExit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except QbenchError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if error.filename is None or ctx.params.get("debug"):
                raise
            complain(unusable(error))
            raise typer.Exit(InputError.exit_code) from None
        except KeyboardInterrupt:
            complain("interrupted; what is finished is kept, and the same command continues where it stopped")
            raise typer.Exit(INTERRUPTED) from None


def guarded() -> int:
    """Run the command line on ``sys.argv`` and return its exit code, whatever happens."""
    _replace_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # where an encoding has no arrows, a table is still shown
        sys.stdout.reconfigure(errors="replace")
    code = 0
    try:
        from qbench.cli.app import app

        app(prog_name="qbench")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        complain("interrupted before anything began")
        code = INTERRUPTED
    except BaseException as error:
        code = _unexpected(error)
    return _flushed() or code


def _replace_closed_streams() -> None:
    """Put streams that lead nowhere in the place of those that were closed (``>&-``).

    The next file that is opened, such as a record, would take a closed one's number, and what is printed, here or in
    workers, would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)  # else workers begin without it
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds: it may quote a file, and no character of it moves the cursor."""
    sentence = _TOO_LONG.sub(r"\1...", " ".join(line.strip() for line in message.splitlines()))
    try:
        print(clean(f"error: {sentence}"), file=sys.stderr, flush=True)
    except OSError:  # the exit code says it too
        _lead_nowhere(sys.stderr)


def _refused(error: Any) -> int:
    """Complain about the words of a command line; where there are none, its help is the answer."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    said = error.format_message().rstrip(".").replace(". Did you mean", ", did you mean")
    path = error.ctx.command_path if error.ctx else "qbench"
    complain(f"{path}: {said[:1].lower()}{said[1:]}{_value(error, said)}; '{path} -h' shows what it takes")
    return int(error.exit_code)


def _value(error: Any, said: str) -> str:
    """Which value of an option was refused, where the complaint does not say."""
    from pydantic import ValidationError

    if not isinstance(error.__cause__, ValidationError):
        return ""
    value = str(error.__cause__.errors()[0]["input"])
    return "" if value in said else f", not '{value}'"


def unusable(error: OSError) -> str:
    """One sentence about a file or directory that the system refuses.

    That is a matter of names and permissions wherever it is met, so that no verb need look out for it.
    """
    advice = _ADVICE.get(error.errno, "check that it is there, and that you may use it")
    return f"{os.fsdecode(error.filename)} cannot be used: {error.strerror or error}; {advice}"


def _unexpected(error: BaseException) -> int:
    """A fault of qbench's, not the user's: say so in a line, and keep the traceback for the report."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return _unwritten(error)
    if "--debug" in sys.argv:
        traceback.print_exc()
        return 1
    what = f"{type(error).__name__}: {error}".strip(": ").splitlines()[0]
    complain(f"{what} (a fault in qbench {__version__}, not in your input); the traceback is in {_kept_traceback()}")
    return 1


def _unwritten(error: OSError) -> int:
    """What was printed does not reach its place. A reader that has gone away (``| head``) needs no word of that."""
    if error.errno == errno.EPIPE:
        return 1
    complain(f"the output cannot be written: {error.strerror}; make room, or choose another place")
    return InputError.exit_code


def _kept_traceback() -> str:
    handle, path = tempfile.mkstemp(prefix="qbench-fault-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"qbench {__version__}, python {sys.version}\n{sys.argv}\n\n{traceback.format_exc()}")
    return path


def _flushed() -> int:
    """Flush now, as what fails would otherwise show as a traceback at exit; the exit code of that, 0 if it worked."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lead_nowhere(sys.stdout)
        return _unwritten(error)
    return 0


def _lead_nowhere(stream: TextIO) -> None:
    """Have what is left in a stream that takes no more go nowhere: Python would fail on it at exit, with a code of its
    own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
