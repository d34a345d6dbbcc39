"""What ``qbench show`` says about a run, as plain lines; and the precision manifest of one method, as a table."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qbench.cell import Status
from qbench.cli.datapaths import formats_in_words
from qbench.errors import InputError, UnknownNameError
from qbench.registry import nearest
from qbench.report.entries import gather, named
from qbench.report.grid import Column, Entry, Grid
from qbench.report.machine import machine_line
from qbench.report.text import MISSING, clean, counted, significant, titled
from qbench.store.files import changed_line
from qbench.store.manifest import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qbench.cell import ManifestRow, MeasureRecord, Record
    from qbench.store import Damaged, RunManifest, Store


def overview_lines(store: Store, records: Sequence[Record], measures: Sequence[MeasureRecord]) -> Iterator[str]:
    """The suite, how many cells ended how, the machine, and a line per failure."""
    manifest = store.manifest
    assert manifest is not None, "an opened run has a suite.json"
    ended = Counter(record.outcome.status for record in records)
    counts = ", ".join(f"{ended[status]} {status}" for status in Status if ended[status]) or "none yet"
    waiting = store.waiting(records)
    yield clean(titled(f"suite {manifest.suite}", manifest.resolved.get("description")))
    yield clean(f"results in {store.path}, last run {manifest.run}")
    yield from standing(store, is_complete=not waiting and len(measures) == len(manifest.measures))
    yield f"cells: {len(manifest.cells)} planned, {counts}" + (f", {waiting} not run yet" if waiting else "")
    yield f"measurements: {len(measures)} of {len(manifest.measures)}"
    yield from _underway(store, manifest)
    yield clean(f"machine: {machine_line(store.environment)}")
    yield from _observed(records)
    for label, reason in manifest.skipped.items():
        yield clean(f"skipped: {label}, it {reason}")
    yield from _failures(store, records)
    yield from flaw_lines(store, store.damaged())


def damage_lines(found: Iterable[Damaged]) -> Iterator[str]:
    """What of the results is damaged or cannot be read, and what to do."""
    for damaged in found:
        if damaged.is_closed:
            yield clean(f"unreadable: {damaged.path} {damaged.reason}; {damaged.remedy}")
        else:
            yield clean(f"damaged: {damaged.path} ({damaged.reason}); {damaged.remedy} with the next 'qbench run'")


def flaw_lines(store: Store, found: Sequence[Damaged]) -> Iterator[str]:
    """The same, and what else is not as a run left it. found: what is damaged."""
    yield from damage_lines(found)
    told = {damaged.path for damaged in found}
    yield from (clean(f"changed: {changed_line(path)}") for path in store.changed() if path not in told)


def standing(store: Store, *, is_complete: bool) -> Iterator[str]:
    """Whether a run is at work here, and what to do where one ended before everything was done."""
    at_work = store.writer()
    if at_work is not None and at_work.is_elsewhere:
        yield clean(
            f"may be running on {at_work.host} since {at_work.started}, process {at_work.pid}, which cannot be seen "
            "from here; if it is not, the same command continues where it stopped"
        )
    elif at_work is not None:
        yield clean(f"running since {at_work.started}, process {at_work.pid}")
    elif not is_complete:
        yield "interrupted: the same command continues where it stopped"


def _underway(store: Store, manifest: RunManifest) -> Iterator[str]:
    """What is trained, or else measured, at this moment."""
    training = store.underway()
    yield from (clean(f"training now: {place(manifest.cells[key])}") for key in reversed(training))
    if not training:
        # Methods are measured in turns, so that the one begun last is at it.
        yield from (clean(f"measuring now: {place(manifest.measures[key])}") for key in store.underway("measure")[:1])


def manifest_grids(records: Sequence[Record], label: str) -> list[Grid]:
    """What ``label`` declares for every layer and data path, beside what its first record saw: a grid for each model,
    data set and arithmetic. Raises InputError."""
    entries = gather(records, [])
    if label not in {entry.label for entry in entries}:
        raise UnknownNameError(f"no method '{label}' in this run{nearest(label, sorted({e.label for e in entries}))}")
    of_label = ([r for r in entry.records if r.outcome.manifest] for entry in entries if entry.label == label)
    grids = [_manifest_grid(observed[0]) for observed in of_label if observed]
    if not grids:
        raise InputError(f"no cell of '{label}' got far enough to observe its data paths; see 'qbench show'")
    return grids


def _manifest_grid(record: Record) -> Grid:
    cell = record.cell
    model, dataset = named(cell.model, cell.model_options), named(cell.dataset, cell.dataset_options)
    columns = ("layer", "path", "declared", "arithmetic", "lowest code", "highest code", "bits needed", "note")
    return Grid(
        clean(f"{cell.label} on {model}, {dataset}, seed {cell.seed}: declared and observed precision"),
        tuple(Column(name, right=index in {4, 5, 6}, key=index < 2) for index, name in enumerate(columns)),
        tuple(_manifest_entries(row) for row in record.outcome.manifest),
    )


def _manifest_entries(row: ManifestRow) -> tuple[Entry, ...]:
    codes = [MISSING if code is None else _code(code) for code in (row.code_min, row.code_max)]
    bits = MISSING if row.needs_bits is None else str(row.needs_bits)
    declared, note = formats_in_words(row.declared), formats_in_words(row.note)
    texts = (row.layer, row.path, declared, row.arithmetic, *codes, bits, note)
    return tuple(Entry(clean(text)) for text in texts)


def _observed(records: Sequence[Record]) -> Iterator[str]:
    """Which probes recorded something, and in how many cells."""
    cells = Counter(name for record in records for name in {series.probe for series in record.outcome.probes})
    if cells:
        counts = ", ".join(f"{name} in {counted(cells[name], 'cell')}" for name in sorted(cells))
        yield clean(f"probes: {counts}; 'qbench plot' draws them")


def _code(code: float) -> str:
    return str(int(code)) if code.is_integer() else significant(code, 4)


def _failures(store: Store, records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        cell, outcome = record.cell, record.outcome
        place = f"{cell.label} on {cell.model}, {cell.dataset}, seed {cell.seed}"
        for attempt in record.attempts:
            yield clean(f"earlier try: {place}: {attempt.status}, {attempt.message} ({attempt.finished})")
        if outcome.status is Status.DIVERGED:
            yield clean(f"diverged: {place}, at step {outcome.diverged_step}")
        elif outcome.status is not Status.OK:
            yield clean(f"failed: {place}: {outcome.status}, {outcome.message} (log: {store.log(record.key)})")
