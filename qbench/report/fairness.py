"""What makes two methods comparable, and what differs between them: refusals and footnotes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from statistics import median

from qbench.cell import Fingerprints, Record, Status
from qbench.report.entries import Entry, as_json
from qbench.train.settings import differences

_MEANING = {
    "init_sha": "other initial weights",
    "order_sha": "other batches",
    "eval_sha": "other evaluation items",
}

MOST_TAKEN = 0.1
"""Of the CPUs, before a speed is doubtful: the system's own work takes less."""

_CONDITIONS = {
    "CPU": ("cpu", "model"),
    "GPUs": ("gpus",),
    "threads": ("worker_threads",),
    "Python": ("python",),
    "torch": ("libraries", "torch"),
    "numpy": ("libraries", "numpy"),
    "environment variables": ("variables",),
    "qbench": ("qbench", "version"),
}
"""What of a record's environment may change an accuracy, and where it stands there."""


def accuracy_refusal(entry: Entry, base: Entry) -> str | None:
    """Why accuracies must not be compared: no seed that both finished, though each finished some, or the first
    fingerprint that differs at such a seed; else None."""
    mine, theirs = _finished(entry), _finished(base)
    if mine and theirs and not mine.keys() & theirs.keys():
        return f"not compared with {base.label}: they finished no seed in common"
    for seed, record in mine.items():
        if seed not in theirs:
            continue
        conflict = fingerprint_conflict(record.outcome.fingerprints, theirs[seed].outcome.fingerprints)
        if conflict:
            return f"not compared with {base.label}: {conflict} at seed {seed}"
    return None


def is_comparable(entry: Entry, base: Entry | None) -> bool:
    """Whether its accuracy is of the same start, batches and items as the baseline's, as far as there is one."""
    return base is None or accuracy_refusal(entry, base) is None


def is_beside(entry: Entry, base: Entry | None) -> bool:
    """Whether its speed and memory were measured in a session of the baseline's, if that was measured at all."""
    return base is None or not base.rounds or speed_refusal(entry, base) is None


def fingerprint_conflict(mine: Fingerprints | None, theirs: Fingerprints | None) -> str | None:
    """What differs between two cells of one seed, in words; None where all three fingerprints are equal."""
    if mine is None or theirs is None:
        return "fingerprints missing"
    differing = [name for name in _MEANING if getattr(mine, name) != getattr(theirs, name)]
    return ", ".join(f"{_MEANING[name]} ({name})" for name in differing) or None


def speed_refusal(entry: Entry, base: Entry) -> str | None:
    """Why speed and memory cannot be divided by the baseline's: no round of both is of one session; else None."""
    if not entry.rounds or entry.rounds.keys() & base.rounds.keys():
        return None
    if not base.rounds:
        return f"no ratios: {base.label} was not measured"
    return f"no ratios: measured in another session than {base.label}"


def common_session(measured: Iterable[Collection[str]]) -> str | None:
    """The session that most of these were measured in, the latest of several; None where nothing was measured."""
    counts = Counter(session for sessions in measured for session in sessions)
    return max(counts, key=lambda session: (counts[session], session), default=None)


def settings_differences(entry: Entry, base: Entry) -> str | None:
    """The training settings in which two methods differ, with the suite's reason; None where all are equal."""
    differing = [
        f"{name} {_shown(mine)} ({base.label}: {_shown(theirs)})"
        for name, (mine, theirs) in differences(entry.cell.train, base.cell.train).items()
    ]
    if not differing:
        return None
    because = f"; because: {entry.cell.because}" if entry.cell.because else ""
    return f"trained with {', '.join(differing)}{because}"


def environment_differences(entry: Entry, base: Entry) -> str | None:
    """On which other machine, software or threads a method was trained than the baseline at a seed of both.

    A run of one more method joins results that may be older; None where all was the same.
    """
    theirs = _finished(base)
    for seed, record in _finished(entry).items():
        if seed not in theirs:
            continue
        mine, other = (dict(_trained_on(r.environment)) for r in (record, theirs[seed]))
        differing = [f"{name} {mine[name]} ({base.label}: {other[name]})" for name in mine if mine[name] != other[name]]
        if differing:
            return f"trained elsewhere: {', '.join(differing)}"
    return None


def unseen_options(method: str, changed: Mapping[str, object], label: str) -> Iterator[str]:
    """``wageubn with lr 0.9``: the options that are not the method's defaults (``changed``), where the suite gave it a
    label that does not show them."""
    missing = [f"{name} {_shown(value)}" for name, value in changed.items() if not re.search(rf"\b{name}\b", label)]
    if missing:
        yield f"{method} with {', '.join(missing)}"


def slow_kernels(entry: Entry) -> str | None:
    """Why speed says nothing about the method: its integers were multiplied by the reference; None otherwise."""
    if entry.is_simulated or "reference" not in entry.kernels:
        return None
    return "measured on the reference kernels, which are written to be read: not the method's own speed"


def unlike_steps(entry: Entry, base: Entry) -> Iterator[str]:
    """Where one of the two was measured in replayed steps, or inference batches, and the other one was not."""
    for what, mine, theirs in (
        ("training steps", entry.is_replayed, base.is_replayed),
        ("inference batches", entry.infers_replayed, base.infers_replayed),
    ):
        if mine is not None and theirs is not None and mine is not theirs:
            how = {True: "replayed", False: "not replayed"}
            yield f"its timed {what} were {how[mine]} ({base.label}: {how[theirs]})"


def crowding(entry: Entry) -> str | None:
    """How much of the CPUs other processes took from the measured rounds (their median); None where it was little.

    In tens of per cent: rows that were disturbed alike share a footnote.
    """
    known = [measured.share_taken for measured in entry.rounds.values() if measured.share_taken is not None]
    taken = median(known) if known else 0.0
    if taken < MOST_TAKEN:
        return None
    return f"measured on a busy machine: other processes took about {10 * round(10 * taken)} % of the CPUs from it"


def failures(entry: Entry) -> Iterator[str]:
    """One sentence per cell that gave no accuracy, and one for a measurement whose last session failed."""
    for record in entry.records:
        outcome = record.outcome
        if outcome.status is Status.DIVERGED:
            at = "" if outcome.diverged_step is None else f" at step {outcome.diverged_step}"
            yield f"seed {record.cell.seed} diverged{at}"
        elif outcome.status is not Status.OK:
            yield f"seed {record.cell.seed}: {outcome.status}{_reason(outcome.message)}"
    rounds = entry.measure.rounds if entry.measure else ()
    last = [measured for measured in rounds if measured.run == rounds[-1].run]  # what failed before was made good
    failed = next((measured for measured in last if measured.status is not Status.OK), None)
    if failed is not None:
        yield f"measurement: {failed.status}{_reason(failed.message)}"


def _finished(entry: Entry) -> dict[int, Record]:
    return {record.cell.seed: record for record in entry.records if record.cell.seed in entry.top1}


def _trained_on(environment: object) -> Iterator[tuple[str, str]]:
    for name, path in _CONDITIONS.items():
        found = environment
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        yield name, "unknown" if found is None else _shown(found)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else as_json(value)


def _reason(message: str) -> str:
    first = message.strip().split("\n", 1)[0]
    return f", {first}" if first else ""
