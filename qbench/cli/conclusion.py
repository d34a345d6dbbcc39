"""What ``qbench run`` says at its end: the table, what failed, and where everything lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.cli.results import print_drawn, print_grids, print_paths
from qbench.cli.state import clock
from qbench.report.text import clean, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qbench.engine import RunSummary
    from qbench.engine.events import Failure


def conclude(summary: RunSummary) -> None:
    """Write and print the results that there are by now, also after an interruption."""
    from qbench.report.grid import method_grids
    from qbench.report.publish import publish
    from qbench.store import Store

    store = Store.open(summary.out)
    records, measures = store.records(), store.measures()
    if records or measures:
        published = publish(records, measures, summary.out, waiting=store.waiting(records))
        print_grids(method_grids(published.table))
        print()
        print(f"cells: {published.cells}")
        print_paths("tables", published.tables)
        print_drawn(published.drawn)
    _print_failures(summary)
    print(_last_line(summary))


def _print_failures(summary: RunSummary) -> None:
    for failure in summary.failures:
        print(clean(f"failed: {_place(failure)}: {failure.status}, {failure.message} (log: {failure.log})"))


def _place(failure: Failure) -> str:
    what = "measuring " if failure.what == "measure" else ""
    seed = "" if failure.what == "measure" else f", seed {failure.seed}"
    return f"{what}{failure.label} on {failure.model}, {failure.dataset}{seed}"


def _last_line(summary: RunSummary) -> str:
    done = summary.done_before + summary.finished
    line = f"{done} of {summary.total} cells done ({summary.finished} now) in {clock(summary.wall_s)}"
    if summary.interrupted:
        return f"interrupted: {line}; the same command continues where it stopped"
    if summary.failures:
        return f"{line}; {_failed(summary.failures)}"
    return line


def _failed(failures: Sequence[Failure]) -> str:
    cells = sum(failure.what == "train" for failure in failures)
    groups = ((cells, "cell"), (len(failures) - cells, "measuring round"))
    what = " and ".join(counted(number, word) for number, word in groups if number)
    return f"{what} failed: the same command tries {'it' if len(failures) == 1 else 'them'} again"
