"""The speed and memory passes: one worker at a time on an otherwise idle machine, methods interleaved, so that a
drift of the machine meets all of them alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qbench.cell import Cell, Measurement, MeasureRecord, Status
from qbench.engine.events import RoundFinished, RoundStarted
from qbench.engine.pool import Ended, Started
from qbench.engine.session import Session
from qbench.store.lock import now

# What speed and memory are divided by: they must be of the same session as what is divided.
ANCHORS = ("fp32", "bf16")


@dataclass(frozen=True)
class Due:
    """A method to be measured: any one of its cells, its key, and how many rounds it still needs."""

    cell: Cell
    key: str
    missing: int


@dataclass(frozen=True)
class Visit:
    """One round of one method, to be measured alone in a fresh process."""

    cell: Cell
    key: str
    round: int


def due_methods(cells: Mapping[str, Cell], records: Mapping[str, MeasureRecord], *, retry: bool) -> list[Due]:
    """Every method of the plan and the rounds it needs. cells, records: by key of the measurement."""
    return [
        Due(cell, key, num_missing(records.get(key), cell.measure.rounds, _anchors(cell, cells, records), retry=retry))
        for key, cell in cells.items()
    ]


def visits(due: Sequence[Due]) -> list[Visit]:
    """The visits of a session, in order; ``due`` names every method of the plan.

    In each round every method is visited once, the first one being another each time. The baselines take part
    in every round that something on their model and data set needs: ratios are made within a session only.
    """
    order = []
    for number in range(max((method.missing for method in due), default=0)):
        needing = {_setting(method.cell) for method in due if number < method.missing}
        start = number % len(due)
        for method in (*due[start:], *due[:start]):
            is_anchor = method.cell.method in ANCHORS and _setting(method.cell) in needing
            if number < method.missing or is_anchor:
                order.append(Visit(method.cell, method.key, number))
    return order


def num_missing(
    record: MeasureRecord | None, rounds: int, anchors: Sequence[MeasureRecord | None] = (), *, retry: bool
) -> int:
    """How many rounds a method still needs; without ``retry``, none where one failed. None where one diverged: the same
    steps would again.

    anchors: the measurements of its baselines. A round counts where each of them has it too: once a baseline's is
    lost, the methods beside it are measured again with it. A baseline that only ever failed holds nobody up.
    """
    if record is None:
        return rounds
    done = _good(record)
    if (not retry and len(done) < len(record.rounds)) or any(r.status is Status.DIVERGED for r in record.rounds):
        return 0
    for anchor in anchors:
        theirs = _good(anchor)
        if anchor is None or theirs:
            done = [visit for visit in done if visit in theirs]
    return max(0, rounds - len(done))


def _good(record: MeasureRecord | None) -> list[tuple[str, int]]:
    """The rounds that succeeded, by session and number."""
    return [(r.run, r.round) for r in record.rounds if r.status is Status.OK] if record else []


def _anchors(cell: Cell, cells: Mapping[str, Cell], records: Mapping[str, MeasureRecord]) -> list[MeasureRecord | None]:
    beside = {key: other for key, other in cells.items() if _setting(other) == _setting(cell)}
    return [records.get(key) for key, other in beside.items() if other.method in ANCHORS]


def _setting(cell: Cell) -> str:
    """What methods are compared on; the device is the same throughout a run."""
    return json.dumps([cell.model, cell.model_options, cell.dataset, cell.dataset_options], sort_keys=True)


def measure(session: Session, order: Sequence[Visit]) -> None:
    """Make the visits, and store each round as soon as it is there. Raises StopRequestedError.

    A method that fails or diverges in one round is left out of the following ones: it would most likely do so again.
    """
    failing: set[str] = set()
    num_rounds = max((visit.round for visit in order), default=0) + 1
    for visit in order:
        if visit.key in failing:
            continue
        for message in session.pool.run([session.assign("measure", visit.cell, visit.key)]):
            match message:
                case Started():
                    session.tell(RoundStarted(visit.cell, visit.round, num_rounds))
                case Ended():
                    if not _store(session, visit, message, num_rounds):
                        failing.add(visit.key)


def _store(session: Session, visit: Visit, ended: Ended, num_rounds: int) -> bool:
    assert isinstance(ended.result, Measurement)
    measurement = ended.result.model_copy(update={"run": session.run, "round": visit.round})
    earlier = session.store.measure(visit.key)
    session.store.put_measure(
        MeasureRecord(
            key=visit.key,
            run=session.run,
            cell=visit.cell,
            rounds=(*(earlier.rounds if earlier else ()), measurement),
            environment=session.environment(),
            finished=now(),
        )
    )
    if measurement.status.is_result:
        session.tally.measured += 1
    else:
        session.tally.add_failure("measure", visit.cell, measurement, ended.assignment.log)
    session.tell(RoundFinished(visit.cell, visit.round, num_rounds, measurement, ended.assignment.log))
    return measurement.status is Status.OK
