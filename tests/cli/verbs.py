"""The verbs in one process, and what a refusal looks like."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner, Result

from qbench.cli.app import app

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")


def qbench(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="qbench")


def refused(*arguments: str) -> str:
    """The one line on stderr of a call that must end with exit code 2 and print nothing else."""
    result = qbench(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()
