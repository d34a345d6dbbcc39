"""The accuracy passes: several cells at a time, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from qbench.cell import Attempt, Cell, Outcome, Record
from qbench.engine.events import CellFinished, CellProgress, CellStarted
from qbench.engine.pool import Ended, Progressed, Started
from qbench.engine.session import Session
from qbench.store.lock import now


def has_result(record: Record | None) -> bool:
    """Whether a cell is finished and not to be run again."""
    return record is not None and record.outcome.status.is_result


def is_due(record: Record | None, *, retry: bool) -> bool:
    """Whether a cell is to be run now: it never was, or it failed and ``retry`` allows another try."""
    return record is None or (retry and not record.outcome.status.is_result)


def train_cells(session: Session, cells: Sequence[Cell]) -> None:
    """Train ``cells`` and store each record as soon as it is there. Raises StopRequestedError."""
    assignments = [session.assign("train", cell, session.keys.cell(cell)) for cell in cells]
    for message in session.pool.run(assignments, session.allotment.jobs):
        cell = message.assignment.job.cell
        match message:
            case Started(assignment):
                session.tell(CellStarted(cell, len(_attempts(session, assignment.key)) + 1))
            case Progressed(progress=p):
                session.tell(CellProgress(cell, p.epoch, p.epochs, p.step, p.steps, p.loss, p.top1))
            case Ended():
                _store(session, message)


def _store(session: Session, ended: Ended) -> None:
    outcome, cell, key = ended.result, ended.assignment.job.cell, ended.assignment.key
    assert isinstance(outcome, Outcome)
    session.store.put(
        Record(
            key=key,
            run=session.run,
            cell=cell,
            outcome=outcome,
            attempts=_attempts(session, key),
            environment=session.environment(),
            started=ended.started,
            finished=now(),
        )
    )
    if outcome.status.is_result:
        session.tally.add_trained(outcome.status)
    else:
        session.tally.add_failure("train", cell, outcome, ended.assignment.log)
    session.tell(CellFinished(cell, outcome, ended.assignment.log))


def _attempts(session: Session, key: str) -> tuple[Attempt, ...]:
    """The failed tries of a cell so far."""
    earlier = session.store.record(key)
    if earlier is None:
        return ()
    failed = earlier.outcome
    last = Attempt(status=failed.status, message=failed.message, traceback=failed.traceback, finished=earlier.finished)
    return (*earlier.attempts, last)
