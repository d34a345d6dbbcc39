"""Finding a run's results, and showing text and tables the way the screen allows."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.errors import InputError, StoreError
from qbench.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qbench.cell import MeasureRecord, Record
    from qbench.report.grid import Grid
    from qbench.report.plots import Drawn
    from qbench.store import Store

RUNS = Path("results/runs")
"""Where runs lie by default, from the working directory."""

_MOST_NAMES = 20
_WITHOUT_STYLES = {"dumb", "unknown"}
"""Terminals that would show escape codes as they are."""


def open_run(reference: str) -> Store:
    """The results called ``reference``: a directory, or a name under ``results/runs``. Raises StoreError."""
    from qbench.store import Store

    path = Path(reference).expanduser()
    for candidate in (path, RUNS / reference):
        if (candidate / "suite.json").exists():
            return Store.open(candidate)
    if path.exists():
        return Store.open(path)
    hint = nearest(reference, run_names())
    raise StoreError(f"no run '{reference}': neither a directory nor a name under {RUNS}{hint}")


def run_names() -> list[str]:
    """The names of the runs under ``results/runs``."""
    return sorted(path.parent.name for path in RUNS.glob("*/suite.json"))


def read_run(store: Store) -> tuple[list[Record], list[MeasureRecord]]:
    """The records of a run so far; what is wrong with any is told on stderr. Raises InputError where there are none."""
    from qbench.cli.overview import flaw_lines

    for line in flaw_lines(store, store.damaged()):
        print(line, file=sys.stderr)
    records, measures = store.records(), store.measures()
    if not records and not measures:
        raise InputError(f"{store.path} holds no finished cell yet; start or continue it with 'qbench run'")
    return records, measures


def print_grids(grids: Sequence[Grid]) -> None:
    """Tables on stdout: with styles and fitted to the width on a terminal, plain and in full elsewhere."""
    from qbench.report.render import terminal

    if sys.stdout.isatty():
        styles = os.environ.get("TERM") not in _WITHOUT_STYLES
        print(terminal.for_screen(list(grids), shutil.get_terminal_size().columns, styles=styles), end="")
    else:
        print(terminal.plain(list(grids)), end="")


def print_paths(title: str, paths: Sequence[Path]) -> None:
    """``title`` and the directory of ``paths``, with their names, or their number where there are many."""
    folders = dict.fromkeys(path.parent for path in paths)
    for folder in folders:
        names = [path.name for path in paths if path.parent == folder]
        print(f"{title}: {folder}/ ({', '.join(names) if len(names) <= _MOST_NAMES else f'{len(names)} files'})")


def print_drawn(drawn: Drawn) -> None:
    """Where the plots are, which had nothing to show, and what is not as it should be in those that were drawn."""
    print_paths("plots", drawn.paths)
    for sentence in drawn.skipped:
        print(f"no plot {sentence}")
    if drawn.note:
        print(drawn.note)
