"""``qbench run``: train every cell that has no result yet, then measure; every result is stored when it is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from qbench.cell import Cell
from qbench.engine.device import allot, check_device, check_kernels
from qbench.engine.events import Notice, Observer, Preparing, RunFinished, RunStarted, RunSummary, Silent
from qbench.engine.launcher import WORKER, Launcher, can_preload
from qbench.engine.measuring import Visit, due_methods, measure, visits
from qbench.engine.pool import Pool, StopRequestedError, signals_to
from qbench.engine.session import Session
from qbench.engine.training import has_result, is_due, train_cells
from qbench.environment import usable_cores
from qbench.errors import DataError, InputError
from qbench.store.files import changed_line, refuse_closed
from qbench.store.keys import Keys
from qbench.store.manifest import RunManifest, conditions, method_digest, new_run_id, slot
from qbench.store.store import Store
from qbench.suite import Plan, Suite, make_plan
from qbench.suite.notes import whole_batches


def run_suite(
    suite: Suite,
    out: Path,
    *,
    device: str = "cpu",
    jobs: int | None = None,
    threads: int | None = None,
    retry: bool = True,
    observer: Observer | None = None,
    worker: Sequence[str] = WORKER,
) -> RunSummary:
    """Bring the results directory ``out`` up to date with ``suite``.

    device: ``cpu``, ``cuda``, ``cuda:N`` or ``auto``. jobs: cells trained at a time; threads: CPU threads of each.
    retry: run cells again that failed before (their errors stay in the record). worker: the command that starts a
    worker process; the number of its answer pipe is appended.

    Whatever is wrong with the input is raised, as an InputError, before anything is written. What goes wrong in a
    cell is that cell's status. Ctrl-C and SIGTERM stop the workers, keep what is finished and return.
    """
    started = time.monotonic()
    device = check_device(device)
    plan = make_plan(suite, device, notes=check_kernels(suite, device))
    allotment = allot(plan.device, jobs, threads)
    keys = Keys(threads=allotment.threads)
    _refuse_an_empty_plan(plan)
    for planned in plan.cells:
        keys.data(planned.cell)
    store = Store.open(out, suite.name, create=True)
    with store.lock():
        damaged = store.recover()
        launcher = Launcher(
            worker, threads=allotment.threads, preload=can_preload(plan.device), log=store.path / "logs" / "workers.log"
        )
        with Pool(launcher) as pool:
            session = Session(new_run_id(), store, keys, pool, observer or Silent(), allotment, retry)
            for path in store.changed():
                session.tell(Notice(changed_line(path)))
            for found in damaged:
                session.tell(Notice(f"a damaged record is now {found.path}, {found.remedy} ({found.reason})"))
            summary = _work(session, plan, started)
        store.seal()
    session.tell(RunFinished(summary))
    return summary


def plan_suite(
    suite: Suite,
    out: Path | None = None,
    *,
    device: str = "cpu",
    jobs: int | None = None,
    threads: int | None = None,
) -> Plan:
    """What :func:`run_suite` would do; with ``out``, also which cells have their result there already.

    Nothing is written; notes tell of damaged and changed records. Raises DeviceError and InputError as the run would,
    and StoreError for a directory that it would refuse.
    """
    device = check_device(device)
    notes = check_kernels(suite, device)
    allotment = allot(device, jobs, threads)
    if out is None or not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return make_plan(suite, device, notes=notes)
    store, keys = Store.open(out, suite.name), Keys(threads=allotment.threads)
    damaged = store.damaged()
    refuse_closed(damaged)
    notes += tuple(map(changed_line, store.changed()))
    notes += tuple(f"a record is damaged, {found.remedy} ({found.path}: {found.reason})" for found in damaged)
    try:
        return make_plan(suite, device, lambda cell: has_result(store.record(keys.cell(cell))), notes)
    except DataError as error:
        return make_plan(suite, device, notes=(*notes, f"what is done already cannot be told: {error}"))


def _work(session: Session, plan: Plan, started: float) -> RunSummary:
    cells = [planned.cell for planned in plan.cells]
    session.store.begin(_manifest(session, plan))
    due, order = _due_cells(session, cells), _due_visits(session, plan)
    num_done = sum(has_result(session.store.record(session.keys.cell(cell))) for cell in cells)
    _announce(session, plan, num_done, len(order))
    interrupted = False
    try:
        _prepare(session, [*due, *(visit.cell for visit in order)])
        with signals_to(session.pool.interrupt):
            train_cells(session, due)
            measure(session, order)
    except (StopRequestedError, KeyboardInterrupt):
        interrupted = True
    return RunSummary(
        suite=plan.suite.name,
        run=session.run,
        out=session.store.path,
        total=len(cells),
        done_before=num_done,
        finished=session.tally.finished,
        diverged=session.tally.diverged,
        measured=session.tally.measured,
        skipped=len(plan.skipped),
        failures=tuple(session.tally.failures),
        interrupted=interrupted,
        wall_s=time.monotonic() - started,
    )


def _due_cells(session: Session, cells: Sequence[Cell]) -> list[Cell]:
    """The cells to train now. Failures that are not tried again count as failures of this run too."""
    due = []
    for cell in cells:
        key = session.keys.cell(cell)
        record = session.store.record(key)
        if is_due(record, retry=session.retry):
            due.append(cell)
        elif record is not None and not has_result(record):
            session.tally.add_failure("train", cell, record.outcome, session.store.log(key))
    return due


def _due_visits(session: Session, plan: Plan) -> list[Visit]:
    cells = {session.keys.measure(cell): cell for cell in plan.suite.measured_cells(plan.device)}
    found = {key: session.store.measure(key) for key in cells}
    records = {key: record for key, record in found.items() if record is not None}
    return visits(due_methods(cells, records, retry=session.retry))


def _prepare(session: Session, cells: Iterable[Cell]) -> None:
    """Load each data set once, so that no cell has to download or render within its time; tell of larger batches."""
    from qbench.data import load_dataset

    num_items: dict[str, int] = {}
    notes: dict[str, None] = {}
    for cell in cells:
        content = session.keys.data(cell)
        if content not in num_items:
            session.tell(Preparing(cell.dataset))
            root = Path(cell.data_root) if cell.data_root else None
            num_items[content] = len(load_dataset(cell.dataset, root=root, options=cell.dataset_options).train)
        notes.update(dict.fromkeys(whole_batches(cell, num_items[content])))
    for note in notes:
        session.tell(Notice(note))


def _announce(session: Session, plan: Plan, num_done: int, num_visits: int) -> None:
    jobs, threads = session.allotment.jobs, session.allotment.threads
    session.tell(
        RunStarted(
            suite=plan.suite.name,
            run=session.run,
            out=session.store.path,
            cells=len(plan.cells),
            done=num_done,
            skipped=len(plan.skipped),
            rounds=num_visits,
            jobs=jobs,
            threads=threads,
        )
    )
    for note in plan.notes:
        session.tell(Notice(note))
    for skipped in plan.skipped:
        session.tell(Notice(f"{skipped.label} is skipped: it {skipped.reason}"))
    if jobs * threads > usable_cores():
        more = f"--jobs {jobs} with --threads {threads} is more than there are cores ({usable_cores()})"
        session.tell(Notice(f"{more}: cells slow each other down"))


def _manifest(session: Session, plan: Plan) -> RunManifest:
    keys = session.keys
    return RunManifest(
        suite=plan.suite.name,
        run=session.run,
        resolved=plan.suite.model_dump(mode="json"),
        conditions=conditions(plan.suite),
        cells={keys.cell(planned.cell): slot(planned.cell) for planned in plan.cells},
        measures={keys.measure(cell): slot(cell, seeded=False) for cell in plan.suite.measured_cells(plan.device)},
        methods={slot(planned.cell, seeded=False): method_digest(planned.cell) for planned in plan.cells},
        skipped={skipped.label: skipped.reason for skipped in plan.skipped},
        environment=session.environment(),
    )


def _refuse_an_empty_plan(plan: Plan) -> None:
    if not plan.cells:
        reasons = "; ".join(f"{skipped.label} {skipped.reason}" for skipped in plan.skipped)
        raise InputError(f"suite '{plan.suite.name}' has nothing to run here: {reasons}")
