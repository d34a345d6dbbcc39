"""Records made up for the tests: fixed numbers, no training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qbench.cell import (
    Cell,
    EpochRow,
    Fingerprints,
    ManifestRow,
    Measurement,
    MeasureRecord,
    Outcome,
    Record,
    Status,
)
from qbench.train.settings import OptimizerSettings, TrainSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENVIRONMENT = {"cpu": {"model": "Test CPU", "cores": 2}, "libraries": {"torch": "2.13.0"}, "python": "3.11.7"}
MANIFEST = (
    ManifestRow(
        layer="stem.conv1", path="weight", declared="Affine(bits=8)", arithmetic="simulated", code_min=0, code_max=255,
        needs_bits=8,
    ),
)  # fmt: skip


def make_cell(label: str = "fp32", seed: int = 0, **changes: object) -> Cell:
    """A cell of ``label``; its method is the part before the bracket."""
    fields: dict[str, object] = {
        "suite": "digits", "method": label.partition("[")[0], "label": label, "options": {}, "model": "resnet8",
        "dataset": "digits", "seed": seed, "arithmetic": "simulated", "device": "cpu",
        "train": TrainSettings(epochs=5, batch_size=64, optimizer=OptimizerSettings(lr=0.1)),
    }  # fmt: skip
    return Cell.model_validate(fields | changes)


def make_curve(top1: float, epochs: int = 5, seed: int = 0) -> tuple[EpochRow, ...]:
    """A smooth learning curve that ends at ``top1`` percent."""
    rows = []
    for epoch in range(1, epochs + 1):
        left = math.exp(-3 * epoch / epochs) * (1 + 0.1 * math.sin(7 * epoch + seed))
        rows.append(
            EpochRow(
                epoch=epoch, step=epoch * 20, lr=0.1, train_loss=0.05 + 2 * left, val_loss=0.08 + 2 * left,
                val_top1=top1 * (1 - 0.6 * left), val_top5=100.0, wall_s=epoch * 1.5,
            )
        )  # fmt: skip
    return tuple(rows)


def make_record(
    label: str = "fp32",
    seed: int = 0,
    top1: float | None = 99.0,
    *,
    status: Status = Status.OK,
    message: str = "",
    diverged_step: int | None = None,
    shas: tuple[str, str, str] | None = None,
    epochs: int = 5,
    finished: str = "2026-01-01T00:00:00+00:00",
    **cell: object,
) -> Record:
    """The record of one cell."""
    init, order, evaluation = shas or (f"init{seed}", f"order{seed}", "eval")
    outcome = Outcome(
        status=status, message=message, epochs=epochs, diverged_step=diverged_step, top1=top1,
        top5=None if top1 is None else 100.0, loss=None if top1 is None else 0.05,
        curve=make_curve(top1 or 20.0, epochs, seed),
        fingerprints=Fingerprints(init_sha=init, order_sha=order, eval_sha=evaluation), wall_s=12.4,
        manifest=MANIFEST if label.startswith("banner8") else (),
    )  # fmt: skip
    made = make_cell(label, seed, **cell)
    return Record(
        key=f"{made.label}-{made.model}-{seed}", run="run1", cell=made, outcome=outcome, environment=ENVIRONMENT,
        started="2026-01-01T00:00:00+00:00", finished=finished,
    )  # fmt: skip


def make_measure(
    label: str = "fp32",
    train_ms: Sequence[float] = (64.0, 60.0, 62.0),
    *,
    simulated: bool = True,
    kernels: Sequence[str] = (),
    taken: Sequence[float | None] | None = None,
    replayed: int | None = None,
    infer_replayed: int | None = None,
    peak: int = 9_000_000,
    model: int = 311_000,
    run: str = "run1",
    environment: Mapping[str, object] = ENVIRONMENT,
    **cell: object,
) -> MeasureRecord:
    """Rounds of ``label``; train_ms is the time of a training step in each round, inference takes a quarter."""
    rounds = tuple(
        Measurement(
            status=Status.OK, batch_size=64, train_step_s=(ms / 1000,) * 3, infer_step_s=(ms / 4000,) * 3,
            peak_train_bytes=peak, saved_bytes=peak // 2, model_bytes=model, optimizer_bytes=2 * model,
            memory_method="live tensor storage", simulated=simulated, kernels=tuple(kernels), run=run,
            round=index, share_taken=None if taken is None else taken[index], replayed=replayed,
            infer_replayed=infer_replayed,
        )
        for index, ms in enumerate(train_ms)
    )  # fmt: skip
    made = make_cell(label, 0, **cell)
    return MeasureRecord(
        key=f"m-{made.label}-{made.model}", run=run, cell=made, rounds=rounds, environment=dict(environment),
        finished="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def small_run() -> tuple[list[Record], list[MeasureRecord]]:
    """Three seeds of four methods, with a divergence, a failure and other settings; out of order on purpose."""
    tuned = TrainSettings(epochs=5, batch_size=64, optimizer=OptimizerSettings(lr=0.01))
    records = [
        make_record("banner8", 1, 98.6),
        make_record("wageubn", 0, 97.25, train=tuned, because="the paper uses a smaller rate | 10 % of ours"),
        make_record("graham[bits=4]", 2, None, status=Status.DIVERGED, diverged_step=41, epochs=2),
        *(make_record("fp32", seed, top1) for seed, top1 in ((2, 98.9), (0, 99.1), (1, 98.8))),
        make_record("banner8", 0, 98.9),
        make_record("banner8", 2, 98.75),
        make_record("graham[bits=4]", 0, 98.0),
        make_record("graham[bits=4]", 1, 98.2),
        make_record("wageubn", 1, 97.5, train=tuned, because="the paper uses a smaller rate | 10 % of ours"),
        make_record("wageubn", 2, None, status=Status.OOM, message="out of memory & 5 $ short_of_it", train=tuned,
                    because="the paper uses a smaller rate | 10 % of ours"),
        *(make_record("bf16", seed, top1) for seed, top1 in ((0, 99.0), (1, 98.85), (2, 98.9))),
    ]  # fmt: skip
    measures = [
        make_measure("graham[bits=4]", (130.0, 128.0, 131.0), kernels=("cpp (avx2)",), peak=9_500_000, model=160_000),
        make_measure("fp32", simulated=False),
        make_measure("bf16", (70.0, 66.0, 68.0), simulated=False, peak=6_000_000),
        make_measure("banner8", (120.0, 125.0, 118.0), kernels=("cpp (avx2)",), peak=10_000_000, model=80_000),
    ]
    return records, measures
