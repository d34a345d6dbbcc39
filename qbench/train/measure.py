"""Speed and memory of one method, alone on the device: one round of a measurement."""

from __future__ import annotations

import gc
import math
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qbench.cell import Measurement, Status
from qbench.data import BatchLoader
from qbench.kernels.backends import in_use
from qbench.optim import optimizer_bytes
from qbench.train.build import BuiltCell, build_cell
from qbench.train.crowding import Reading, share_taken
from qbench.train.device import float_kernels, synchronize
from qbench.train.memory import CPU_METHOD, CUDA_METHOD, peak_step_bytes, peak_step_bytes_cuda, saved_bytes
from qbench.train.replay import MAX_UNSETTLED
from qbench.train.step import InferencePass, TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qbench.cell import Cell
    from qbench.recipe import Recipe

MAX_BATCHES = 4
"""Different batches that the timed steps go round: enough that no step repeats the one before it."""

Batch = tuple[Tensor, Tensor]


def measure_cell(cell: Cell) -> Measurement:
    """One round: timed training steps, timed inference batches, and then the bytes of a training step.

    The batches are the first ones of the cell's training, without augmentation, and lie on the device before the
    clock starts. A timed training step is forward, backward and update; a timed inference batch is a forward pass in
    evaluation mode. A loss that is NaN or infinite at the end of the timed steps gives status ``diverged``: steps on
    such numbers say nothing. Energy is None: no counter was read. Other processes' work on the same CPUs is
    noted, not prevented.
    Raises the InputError family for what the cell names and this machine does not have.
    """
    before = Reading.now()  # the timed steps alone may be too short
    built = build_cell(_with_batch_size(cell))
    batches = _preload(built)
    bench = _Bench(built, cell.measure.warmup_steps, cell.measure.steps)
    train_step_s = bench.time_training(batches)
    if not math.isfinite(bench.last_loss):
        message = f"the training loss became {bench.last_loss} within {bench.step} measured steps"
        return Measurement(status=Status.DIVERGED, message=message, batch_size=built.plan.batch_size)
    infer_step_s = bench.time_inference(batches)
    del batches[1:]
    return Measurement(
        status=Status.OK,
        batch_size=built.plan.batch_size,
        train_step_s=train_step_s,
        infer_step_s=infer_step_s,
        peak_train_bytes=bench.peak_bytes(batches[0]),
        saved_bytes=bench.saved_bytes(batches[0]),
        model_bytes=built.converted.model_bytes(),
        optimizer_bytes=optimizer_bytes(built.optimizer, built.converted),
        memory_method=CUDA_METHOD if built.device.type == "cuda" else CPU_METHOD,
        simulated=is_simulated(cell, built.recipe),
        kernels=() if built.recipe.stays_float else in_use(),
        replayed=bench.num_replayed,
        infer_replayed=bench.num_inferred,
        share_taken=share_taken(before, Reading.now(), torch.get_num_threads()),
    )


def is_simulated(cell: Cell, recipe: Recipe) -> bool:
    """Whether speed and memory are those of a simulation: low precision declared, float tensors and kernels used.

    A method that stays float (``fp32``, ``bf16``) is not simulated in either arithmetic.
    """
    return cell.arithmetic == "simulated" and not recipe.stays_float


class _Bench:
    """Runs the steps of a built cell and times each. step: training steps done; num_replayed, num_inferred: training
    steps and inference batches that came from a tape, warm-up included."""

    def __init__(self, built: BuiltCell, warmup_steps: int, steps: int) -> None:
        self.step = 0
        self._loss = torch.tensor(math.nan)
        self._built = built
        self._warmup_steps = warmup_steps
        self._steps = steps
        self._timed_step = TrainStep(built, replays=True)
        # Bytes are those of a step that autograd runs: some steps of every training are, and they hold a little more.
        self._counted_step = TrainStep(built)
        self.num_replayed = self.num_inferred = 0

    @property
    def last_loss(self) -> float:
        """The loss of the newest training step."""
        return self._loss.item()

    def time_training(self, batches: Sequence[Batch]) -> tuple[float, ...]:
        """Seconds of each timed training step, after the warm-up steps and those that are recorded."""
        with float_kernels(reproducible=False):
            return self._timed(self._train_timed, batches, lambda: self._timed_step.is_settled)

    def time_inference(self, batches: Sequence[Batch]) -> tuple[float, ...]:
        """Seconds of each timed inference batch, after the warm-up ones and those that are recorded."""
        self._timed_step.rest()
        self._built.model.eval()
        timed = InferencePass(self._built, replays=True)

        def infer(images: Tensor, labels: Tensor) -> None:
            timed.run(images)
            self.num_inferred += timed.is_replayed

        with float_kernels(reproducible=False):
            seconds = self._timed(infer, batches, lambda: timed.is_settled)
        self._built.model.train()
        return seconds

    def peak_bytes(self, batch: Batch) -> int:
        """Peak bytes of a training step, with the kernels that were timed."""
        gc.collect()
        if self._built.device.type == "cuda":
            with float_kernels(reproducible=False):
                return peak_step_bytes_cuda(lambda: self._train_counted(*batch), self._built.device)
        held = [*self._built.state(), *self._built.optimizer.state.values(), *batch]
        return peak_step_bytes(lambda: self._train_counted(*batch), held)

    def saved_bytes(self, batch: Batch) -> int:
        """Bytes kept for the backward pass."""
        return saved_bytes(lambda: self._counted_step.forward(self._clock(), *batch), self._built.state())

    def _timed(
        self, run: Callable[[Tensor, Tensor], None], batches: Sequence[Batch], is_settled: Callable[[], bool]
    ) -> tuple[float, ...]:
        endless = cycle(batches)
        for batch in islice(endless, self._warmup_steps):
            run(*batch)
        for batch in islice(endless, MAX_UNSETTLED):
            if is_settled():
                break
            run(*batch)
        return tuple(self._seconds(run, batch) for batch in islice(endless, self._steps))

    def _seconds(self, run: Callable[[Tensor, Tensor], None], batch: Batch) -> float:
        synchronize(self._built.device)
        started = time.perf_counter()
        run(*batch)
        synchronize(self._built.device)
        return time.perf_counter() - started

    def _train_timed(self, images: Tensor, labels: Tensor) -> None:
        self._train(self._timed_step, images, labels)
        self.num_replayed += self._timed_step.is_replayed

    def _train_counted(self, images: Tensor, labels: Tensor) -> None:
        self._train(self._counted_step, images, labels)

    def _train(self, train_step: TrainStep, images: Tensor, labels: Tensor) -> None:
        loss = train_step.forward(self._clock(), images, labels)
        train_step.update(loss)
        self._loss = loss.detach()
        self.step += 1

    def _clock(self) -> int:
        # A measurement may take more steps than a short training has.
        return self.step % self._built.plan.total_steps


def _with_batch_size(cell: Cell) -> Cell:
    if cell.measure.batch_size is None:
        return cell
    return cell.model_copy(update={"train": cell.train.model_copy(update={"batch_size": cell.measure.batch_size})})


def _preload(built: BuiltCell) -> list[Batch]:
    wanted = min(MAX_BATCHES, built.cell.measure.warmup_steps + built.cell.measure.steps)
    batches = BatchLoader.iterate(
        built.dataset.train,
        batch_size=built.plan.batch_size,
        seed=built.cell.seed,
        shuffle=True,
        drop_last=True,
        max_batches=wanted,
    )
    return [built.to_device(batch.images, batch.labels) for batch in batches]
