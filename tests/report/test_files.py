"""Derived files."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from qbench.report.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import os, signal, sys
from pathlib import Path
from qbench.report.files import write_file
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_file(Path(sys.argv[1]), "half of it")
"""


def test_what_a_killed_writer_left_goes_with_the_next_writing_of_the_file(tmp_path: Path) -> None:
    file, other = tmp_path / "methods[1].md", tmp_path / "cells.csv"
    for path in (file, other):
        subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    orphan, others = sorted(tmp_path.iterdir(), key=lambda path: "methods" not in path.name)
    at_work = tmp_path / orphan.name.replace(orphan.name.split("-")[1], str(os.getppid()))
    at_work.write_text("a part")
    write_file(file, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([file, at_work, others])
    assert file.read_text() == "whole"
