"""What the verbs do for suites of ``kind: theory``."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qbench.cell import Status
from qbench.cli.arguments import one_seed
from qbench.cli.overview import flaw_lines, standing
from qbench.cli.results import RUNS, print_grids, print_paths
from qbench.cli.state import clock
from qbench.errors import InputError
from qbench.report.machine import machine_line
from qbench.report.text import clean, counted, titled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.progress import Progress, TaskID

    from qbench.store import Store
    from qbench.suite.theory import TheorySuite
    from qbench.theory.results import ExperimentRecord
    from qbench.theory.runner import Event, Observer, TheorySummary

_QUIET_S = 30.0
"""Without a terminal a long experiment says where it stands this often."""


def run_theory_suite(
    suite: str,
    out: Path | None,
    meaningless: Mapping[str, object],
    *,
    profile: str | None,
    seeds: str | None,
    jobs: int | None,
    threads: int | None,
    dry_run: bool,
    retry: bool,
) -> int:
    """Run a theory suite, or show its plan; the exit code.

    meaningless: options of ``qbench run`` that say nothing to experiments; one that was given is an InputError.
    """
    from qbench.engine.device import allot
    from qbench.suite.theory import load_theory_suite
    from qbench.theory.runner import run_theory

    for flag, value in meaningless.items():
        if value is not None:
            raise InputError(f"{flag}: suite '{suite}' is of kind theory, and its experiments know no such option")
    loaded = load_theory_suite(suite, profile=profile, seed=one_seed(seeds))
    allot("cpu", jobs, threads)  # a plan is refused what its run would be
    out = out or RUNS / loaded.name
    if dry_run:
        print_theory_plan(loaded, out, threads)
        return 0
    with theory_display() as observer:
        summary = run_theory(loaded, out, jobs=jobs, threads=threads, retry=retry, observer=observer)
    conclude_theory(summary)
    return summary.exit_code


def table_theory(store: Store, format_name: str, output: Path | None, *, cells: bool, baseline: str | None) -> None:
    """Print the answers of a run in one of the table formats, or write them to ``output``. Raises InputError."""
    from qbench.report.files import write_file
    from qbench.report.theory import render_theory

    if cells:
        raise InputError(f"--cells: {store.path} holds a theory run, which trains no cells")
    _refuse_baseline(store, baseline)
    records = read_theory(store)
    if output is not None:
        write_file(output, render_theory(records, format_name))
        print(f"written: {output}")
    elif format_name == "terminal":
        print_grids_of(records)
    else:
        print(render_theory(records, format_name), end="")


def plot_theory(store: Store, out: Path, only: Sequence[str], *, baseline: str | None) -> None:
    """Draw the pictures of a run into ``out``. Raises InputError."""
    from qbench.report.plots.theory import write_pictures

    _refuse_baseline(store, baseline)
    pictures = write_pictures(read_theory(store), out, only=only)
    if not pictures:
        raise InputError(f"{store.path} holds no picture: no experiment ended well; see 'qbench show {store.path}'")
    print_paths("plots", pictures)


def _refuse_baseline(store: Store, baseline: str | None) -> None:
    if baseline is not None:
        raise InputError(
            f"--baseline: {store.path} holds a theory run, which compares no methods with a baseline; leave it out"
        )


def print_theory_plan(suite: TheorySuite, out: Path, threads: int | None) -> None:
    """The plan as plain lines."""
    from qbench.theory import find_experiment
    from qbench.theory.runner import begun, done_experiments

    store = begun(suite, out)
    done = done_experiments(suite, store, threads) if store else set()
    profile = f" (profile {suite.profile})" if suite.profile else ""
    print(clean(titled(f"suite {suite.name}{profile}", suite.description)))
    print(clean(f"into {out}, on cpu, seed {suite.seed}"))
    print(f"{counted(len(suite.experiments), 'experiment')}, {len(done)} of them done")
    for experiment in suite.experiments:
        is_done = ", done" if experiment.name in done else ""
        print(f"  {experiment.name}: {find_experiment(experiment.name).description}{is_done}")
        for name, value in experiment.changed.items():
            print(clean(f"    {name}: {value}"))
    for line in flaw_lines(store.store, store.damaged()) if store else ():
        print(line)


def conclude_theory(summary: TheorySummary) -> None:
    """Write and print what there is by now, also after an interruption."""
    from qbench.report.theory import publish_theory, verdict_line

    if summary.records:
        tables, plots = publish_theory(summary.records, summary.out)
        print_grids_of(summary.records)
        print()
        print_paths("tables", tables)
        print_paths("plots", plots)
    for failure in summary.failures:
        print(clean(f"failed: {failure.experiment}: {failure.status}, {failure.message}"))
    done = len(summary.records) - len(summary.failures)
    line = f"{done} of {summary.total} experiments done ({summary.finished} now) in {clock(summary.wall_s)}"
    if summary.interrupted:
        print(f"interrupted: {line}; the same command continues where it stopped")
    else:
        print(f"{line}; {verdict_line(summary.records)}")


def print_grids_of(records: Sequence[ExperimentRecord]) -> None:
    """The answers as tables on stdout."""
    from qbench.report.theory import theory_grids

    print_grids(theory_grids(records))


def show_theory(store: Store) -> None:
    """How a theory run stands, and its answers."""
    from qbench.theory.results import TheoryStore

    manifest = store.manifest
    assert manifest is not None, "an opened run has a suite.json"
    theory = TheoryStore(store)
    records = theory.records()
    print(clean(titled(f"suite {manifest.suite}", manifest.resolved.get("description"))))
    print(clean(f"results in {store.path}, last run {manifest.run}"))
    for line in standing(store, is_complete=len(records) == len(manifest.cells)):
        print(line)
    print(f"experiments: {len(manifest.cells)} planned, {len(records)} run")
    print(clean(f"machine: {machine_line(store.environment)}"))
    for record in records:
        if record.status is not Status.OK:
            print(clean(f"failed: {record.experiment}: {record.message} (log: {theory.log(record.key)})"))
    for line in flaw_lines(store, theory.damaged()):
        print(line)
    if records:
        print()
        print_grids_of(records)


def read_theory(store: Store) -> list[ExperimentRecord]:
    """The records of a run so far; what is wrong with any is told on stderr. Raises InputError where there are none."""
    from qbench.theory.results import TheoryStore

    theory = TheoryStore(store)
    for line in flaw_lines(store, theory.damaged()):
        print(line, file=sys.stderr)
    records = theory.records()
    if not records:
        raise InputError(f"{store.path} holds no finished experiment yet; start or continue it with 'qbench run'")
    return records


@contextmanager
def theory_display() -> Iterator[Observer]:
    """The observer that suits stderr: bars on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _PlainLines().on_event
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars).on_event


def told(event: Event) -> str:
    """``event`` as one line."""
    from qbench.engine.events import Notice
    from qbench.theory.runner import Finished, Progressed

    if isinstance(event, Notice):
        return clean(f"note: {event.message}")
    if isinstance(event, Finished):
        record = event.record
        if record.status is not Status.OK:
            return clean(f"{record.experiment}: {record.status}, {record.message} (log: {event.log})")
        met = f"{record.num_judged - record.num_outside} of {record.num_judged} known answers met"
        return f"{record.experiment}: {met}, {clock(record.wall_s)}"
    if isinstance(event, Progressed):
        return f"{event.experiment}: {event.fraction:.0%}"
    return f"{event.experiment}: started"


class _PlainLines:
    """One line per thing that happened; of progress, only now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def on_event(self, event: Event) -> None:
        from qbench.theory.runner import Progressed

        if isinstance(event, Progressed) and time.monotonic() - self._last < _QUIET_S:
            return
        self._last = time.monotonic()
        print(told(event), file=sys.stderr, flush=True)


class _Bars:
    """A bar per running experiment; what ended stays above them."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def on_event(self, event: Event) -> None:
        from rich.text import Text

        from qbench.engine.events import Notice
        from qbench.theory.runner import Finished, Progressed

        if isinstance(event, Notice):
            self._bars.console.print(Text(told(event)))
        elif isinstance(event, Finished):
            self._bars.remove_task(self._tasks.pop(event.record.experiment))
            missed = event.record.num_outside or event.record.status is not Status.OK
            self._bars.console.print(Text(told(event), style="red" if missed else ""))
        elif isinstance(event, Progressed):
            self._bars.update(self._tasks[event.experiment], completed=event.fraction)
        else:
            self._tasks[event.experiment] = self._bars.add_task(event.experiment, total=1.0)
