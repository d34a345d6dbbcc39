"""One whole training step as qbench runs it, on random images in memory: what the benchmarks and the profile time.

Forward pass, loss, backward pass through autograd, ranges measured anew, update of the weights.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import torch

from qbench.catalog import find_method
from qbench.cell import Cell
from qbench.data.dataset import Dataset
from qbench.models import build_model
from qbench.nn import convert
from qbench.optim import build_optimizer
from qbench.train.build import BuiltCell
from qbench.train.memory import peak_step_bytes, saved_bytes
from qbench.train.plan import Plan
from qbench.train.settings import OptimizerSettings, TrainSettings
from qbench.train.step import TrainStep

if TYPE_CHECKING:
    from torch import Tensor

NUM_BATCHES = 4
"""Different batches that the steps go round."""

TOTAL_STEPS = 10_000
OPTIMIZER = OptimizerSettings(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4)


@dataclass(frozen=True)
class StepSpec:
    """A training step, as plain data that travels to another process.

    compiler: backend of torch.compile, empty for none. channels_last: memory format of images and weights.
    random_bits: generator of stochastic rounding.
    """

    method: str
    model: str
    image_size: int
    batch_size: int
    num_classes: int = 10
    options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    compiler: str = ""
    channels_last: bool = True
    random_bits: Literal["philox", "hash"] = "philox"
    replays: bool = True

    def data(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class TrainingStep:
    """A model that trains; ``run`` is one step. steps: done so far."""

    def __init__(self, spec: StepSpec) -> None:
        self.built = build(spec)
        self.steps = 0
        self._timed_step = TrainStep(self.built, replays=spec.replays and not spec.compiler)
        self._counted_step = TrainStep(self.built)
        self._batches = random_batches(spec, self.built)
        self._endless = cycle(self._batches)
        self._loss = torch.tensor(math.nan)
        self.built.model.train()

    def run(self) -> None:
        """Forward, loss, backward, update; replayed, as in a training, where nothing compiles the model."""
        self._run(self._timed_step)

    def loss(self) -> float:
        """The loss of the newest step."""
        return self._loss.item()

    def peak_bytes(self) -> int:
        """Peak of live tensor bytes within a step that autograd runs."""
        held = [*self.built.state(), *self.built.optimizer.state.values(), *self._batches[0]]
        self._endless = cycle(self._batches[:1])
        return peak_step_bytes(lambda: self._run(self._counted_step), held)

    def saved_bytes(self) -> int:
        """Bytes that one forward pass keeps for the backward pass."""
        return saved_bytes(lambda: self._forward(self._counted_step), self.built.state())

    def _run(self, train_step: TrainStep) -> None:
        loss = self._forward(train_step)
        train_step.update(loss)
        self._loss = loss.detach()
        self.steps += 1

    def _forward(self, train_step: TrainStep) -> Tensor:
        return train_step.forward(self.steps, *next(self._endless))


def build(spec: StepSpec) -> BuiltCell:
    """The model converted and its optimiser, put together as for a cell of a suite."""
    settings = TrainSettings(epochs=1, batch_size=spec.batch_size, optimizer=OPTIMIZER, random_bits=spec.random_bits)
    cell = Cell(
        suite="benchmark", method=spec.method, label=spec.method, options=spec.options, model=spec.model,
        model_options=spec.model_options, dataset="random", seed=0, arithmetic="integer", device="cpu", train=settings,
    )  # fmt: skip
    layout = torch.channels_last if spec.channels_last else torch.contiguous_format
    torch.manual_seed(0)
    model = build_model(
        spec.model, num_classes=spec.num_classes, in_channels=3, image_size=spec.image_size, options=spec.model_options
    ).to(memory_format=layout)  # type: ignore[call-overload]
    recipe = find_method(spec.method).build(spec.options)
    converted = convert(model, recipe, arithmetic="integer")
    converted.clock.total_steps = TOTAL_STEPS
    converted.clock.generator = spec.random_bits
    optimizer = build_optimizer(converted, recipe, OPTIMIZER)
    if spec.compiler:
        converted = replace(converted, model=torch.compile(converted.model, backend=spec.compiler))
    plan = Plan(spec.batch_size, TOTAL_STEPS, 1)
    return BuiltCell(cell, plan, torch.device("cpu"), random_images(spec), recipe, converted, optimizer, "", layout)


class RandomImages:
    """Split of NUM_BATCHES batches of normally distributed images and uniform labels, made in memory."""

    decodes = False

    def __init__(self, spec: StepSpec) -> None:
        generator = torch.Generator().manual_seed(0)
        items, size = NUM_BATCHES * spec.batch_size, spec.image_size
        self.images = torch.randn((items, 3, size, size), generator=generator)
        self.labels = torch.randint(0, spec.num_classes, (items,), generator=generator)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Any, augment: Any) -> tuple[Tensor, Tensor]:
        """The items at ``indices``."""
        return self.images[indices], self.labels[indices]

    def content_sha(self) -> str:
        """Made anew from the same seed every time."""
        return "random"


def random_images(spec: StepSpec) -> Dataset:
    """A data set whose three splits are the same random images."""
    split = RandomImages(spec)
    return Dataset("random", spec.num_classes, 3, spec.image_size, split, split, split, "normal random numbers")


def random_batches(spec: StepSpec, built: BuiltCell) -> list[tuple[Tensor, Tensor]]:
    """The batches of the training split, laid out as the model takes them."""
    chosen = torch.arange(NUM_BATCHES * spec.batch_size).split(spec.batch_size)
    return [built.to_device(*built.dataset.train.batch(indices.numpy(), None)) for indices in chosen]


ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""glibc keeps freed memory instead of returning it to the system: the page faults of every step would be timed too."""


def steady_environment(threads: int) -> dict[str, str]:
    """This process's environment with the allocator and the number of threads that every side of a comparison gets."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads))
    return {**os.environ, **ALLOCATOR, **counts}
