"""Train one cell: epochs, validation, the test at the end, and what the outcome says."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qbench.cell import EpochRow, Fingerprints, ManifestRow, Outcome, ProbeSeries, Status
from qbench.data import BatchLoader
from qbench.train.build import BuiltCell, build_cell
from qbench.train.device import float_kernels
from qbench.train.evaluate import Evaluation, tally
from qbench.train.fingerprint import OrderHash, eval_sha
from qbench.train.losses import DivergedError, LossLog
from qbench.train.progress import Progress, Reporter
from qbench.train.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qbench.cell import Cell
    from qbench.data import Split
    from qbench.train.observe import Observer


def train_cell(cell: Cell, report: Callable[[Progress], None]) -> Outcome:
    """Train ``cell`` to its last epoch and test it once; ``report`` hears of progress a few times per second at most.

    A loss that is NaN or infinite ends the run with status ``diverged``: a result, not an error. The order
    fingerprint then covers the batches consumed until it was noticed.
    Raises the InputError family for what the cell names and this machine does not have.
    """
    started = time.perf_counter()
    built = build_cell(cell)
    training = Training(built, report)
    with float_kernels(reproducible=True):
        try:
            test: Evaluation | None = training.run()
            message, diverged_step = "", None
        except DivergedError as error:
            test, message, diverged_step = None, str(error), error.step
    return Outcome(
        status=Status.OK if test else Status.DIVERGED,
        message=message,
        epochs=len(training.curve),
        diverged_step=diverged_step,
        top1=test.top1 if test else None,
        top5=test.top5 if test else None,
        loss=test.loss if test else None,
        curve=tuple(training.curve),
        fingerprints=training.fingerprints(),
        manifest=training.manifest(),
        probes=training.probes(),
        wall_s=time.perf_counter() - started,
    )


class Training:
    """The state of one training run. curve: one row per finished epoch; step: optimiser steps done."""

    def __init__(self, built: BuiltCell, report: Callable[[Progress], None]) -> None:
        self.curve: list[EpochRow] = []
        self.step = 0
        self._built = built
        self._loader = BatchLoader()
        self._train_step = TrainStep(built, replays=True)
        self._order = OrderHash()
        self._losses = LossLog(built.device)
        self._reporter = Reporter(report)
        self._top1: float | None = None
        self._observer = _observer(built)

    def run(self) -> Evaluation:
        """Train all epochs; the figures of the test split. Raises :class:`DivergedError`."""
        epochs = self._built.plan.epochs
        for epoch in range(epochs):
            started = time.perf_counter()
            train_loss = self.train_epoch(epoch)
            is_due = (epoch + 1) % self._built.cell.train.eval_every == 0 or epoch + 1 == epochs
            validation = self.evaluate(self._built.dataset.validation, "validation") if is_due else None
            self.curve.append(self._row(epoch, train_loss, validation, time.perf_counter() - started))
            if self._observer is not None:
                self._train_step.rest()
                self._observer.observe(self._train_step, self.step - 1)
        test = self.evaluate(self._built.dataset.test, "test")
        self._reporter.send(self._progress(epochs - 1))
        return test

    def train_epoch(self, epoch: int) -> float:
        """Train epoch ``epoch``, counted from 0; the mean training loss. Raises :class:`DivergedError`."""
        for images, labels in self._batches(epoch):
            self._one_step(images, labels)
            if self._reporter.due():
                self._reporter.send(self._progress(epoch))
        return self._losses.take_mean()

    def _one_step(self, images: Tensor, labels: Tensor) -> None:
        # A function of its own, so that the graph behind the loss is freed before the next step begins.
        loss = self._train_step.forward(self.step, images, labels)
        self._losses.add(self.step, loss)
        self._train_step.update(loss)
        self.step += 1

    def evaluate(self, split: Split, name: str) -> Evaluation:
        """The figures on ``split``, called ``name`` in messages. Raises :class:`DivergedError`."""
        self._train_step.rest()
        self._built.model.eval()
        try:
            with torch.no_grad():
                figures = tally(self._logits(split), self._built.dataset.num_classes, self._built.device)
        finally:
            self._built.model.train()
        if not math.isfinite(figures.loss):
            raise DivergedError(self.step - 1, figures.loss, name)
        if name == "validation":
            self._top1 = figures.top1
        return figures

    def fingerprints(self) -> Fingerprints:
        """Of the initial weights, the batches consumed so far and the evaluation sets."""
        data = self._built.dataset
        evaluated = eval_sha(data.validation, data.test, self._built.cell.train.max_eval_items)
        return Fingerprints(init_sha=self._built.init_sha, order_sha=self._order.hexdigest(), eval_sha=evaluated)

    def manifest(self) -> tuple[ManifestRow, ...]:
        """What was quantised, as observed; empty before the first complete step."""
        if self.step == 0:
            return ()
        return tuple(ManifestRow(**asdict(row)) for row in self._built.converted.manifest())

    def probes(self) -> tuple[ProbeSeries, ...]:
        """What the cell's probes observed, epoch by epoch."""
        return () if self._observer is None else self._observer.series()

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        settings, plan = self._built.cell.train, self._built.plan
        batches = self._loader.iterate(
            self._built.dataset.train,
            batch_size=plan.batch_size,
            seed=self._built.cell.seed,
            epoch=epoch,
            shuffle=True,
            augment=settings.augment,
            drop_last=True,
            max_batches=plan.steps_per_epoch,
        )
        for batch in batches:
            self._order.update(batch.draw_sha)
            yield self._built.to_device(batch.images, batch.labels)

    def _logits(self, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
        # The training batch size: a format whose range comes from the batch sees ranges of the size it was trained on.
        size = self._built.plan.batch_size
        items = min(len(split), self._built.cell.train.max_eval_items or len(split))
        batches = self._loader.iterate(
            split,
            batch_size=size,
            seed=self._built.cell.seed,
            epoch=0,
            shuffle=False,
            augment=False,
            drop_last=False,
            max_batches=math.ceil(items / size),
        )
        for number, batch in enumerate(batches):
            wanted = items - number * size
            images, labels = self._built.to_device(batch.images[:wanted], batch.labels[:wanted])
            with self._built.converted.precision():
                logits = self._built.converted.predict(images)
            yield logits, labels

    def _progress(self, epoch: int) -> Progress:
        plan = self._built.plan
        return Progress(epoch + 1, plan.epochs, self.step, plan.total_steps, self._losses.newest, self._top1)

    def _row(self, epoch: int, train_loss: float, validation: Evaluation | None, wall_s: float) -> EpochRow:
        lr = self._built.cell.train.optimizer.lr * self._train_step.lr_factor(self.step - 1)
        return EpochRow(
            epoch=epoch + 1,
            step=self.step,
            lr=lr,
            train_loss=train_loss,
            val_loss=validation.loss if validation else None,
            val_top1=validation.top1 if validation else None,
            val_top5=validation.top5 if validation else None,
            wall_s=wall_s,
        )


def _observer(built: BuiltCell) -> Observer | None:
    """Of the cell's probes; a training without any loads and does nothing for them."""
    if not built.cell.probes:
        return None
    from qbench.train.observe import Observer

    observer = Observer(built)
    observer.begin()
    return observer
