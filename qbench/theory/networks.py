"""Small networks trained inside an experiment, by the code that trains every cell of a suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from qbench.catalog import find_method
from qbench.cell import Cell, Outcome, Status
from qbench.optim.base import quantized_layers
from qbench.quant.qtensor import QTensor
from qbench.recipe import Arithmetic
from qbench.theory.progress import Progress
from qbench.train.build import BuiltCell, build_cell
from qbench.train.device import float_kernels
from qbench.train.loop import Training, train_cell
from qbench.train.settings import OptimizerSettings, ScheduleSettings, TrainSettings


def cell(
    method: str,
    options: Mapping[str, object],
    *,
    model: str,
    dataset: str,
    train: TrainSettings,
    seed: int,
    model_options: Mapping[str, Any] | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    arithmetic: Arithmetic = "integer",
) -> Cell:
    """One training run on the CPU."""
    found = find_method(method)
    resolved = found.resolve(options)
    return Cell(
        suite="theory",
        method=method,
        label=found.label(resolved),
        options=resolved,
        model=model,
        model_options=dict(model_options or {}),
        dataset=dataset,
        dataset_options=dict(dataset_options or {}),
        seed=seed,
        arithmetic=arithmetic,
        device="cpu",
        train=train,
    )


def adam(
    epochs: int, batch_size: int, lr: float, *, schedule: ScheduleSettings | None = None, augment: bool = True
) -> TrainSettings:
    """Adam, with a cosine schedule unless another is given; validated once, at the end."""
    return TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=OptimizerSettings(name="adam", lr=lr),
        schedule=schedule or ScheduleSettings(),
        augment=augment,
        eval_every=epochs,
    )


def accuracy(cell: Cell, progress: Progress, start: float, end: float) -> float:
    """Test accuracy in percent after training; NaN where the run diverged."""
    outcome: Outcome = train_cell(
        cell, lambda state: progress(start + (end - start) * state.step / max(state.steps, 1))
    )
    return outcome.top1 if outcome.status is Status.OK and outcome.top1 is not None else float("nan")


@dataclass(frozen=True)
class Run:
    """A training run that an experiment looks into. epoch: how many are done."""

    built: BuiltCell
    training: Training
    epoch: int

    def accuracy(self) -> float:
        """Test accuracy in percent."""
        return self.training.evaluate(self.built.dataset.test, "test").top1


def epochs(cell: Cell) -> Iterator[Run]:
    """Train ``cell``, giving the run before the first epoch and after each.

    Raises DivergedError where the loss is no number.
    """
    built = build_cell(cell)
    training = Training(built, lambda _: None)
    yield Run(built, training, 0)
    for epoch in range(built.plan.epochs):
        with float_kernels(reproducible=True):
            training.train_epoch(epoch)
        yield Run(built, training, epoch + 1)


def binary_codes(run: Run) -> dict[str, Tensor]:
    """The codes, -1 and +1, that each binary layer multiplies with when it rounds to nearest."""
    model = run.built.model
    model.eval()
    try:
        encoded = {name: layer.encode_weight() for name, layer in quantized_layers(run.built.converted)}
    finally:
        model.train()
    return {name: cast(QTensor, value).codes.clone() for name, value in encoded.items()}


def signals(run: Run, images: Tensor, labels: Tensor) -> dict[str, list[Tensor]]:
    """Weights, activations (inputs) and errors (gradients of the outputs) of every convolution and linear layer of a
    float network, in the order of the network, for one batch in training mode."""
    built = run.built
    found: dict[str, list[Tensor]] = {"weight": [], "activation": [], "error": []}
    layers = [m for m in built.model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    outputs: list[Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found["activation"].append(inputs[0].detach())
        outputs.append(output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        images, labels = built.to_device(images, labels)
        loss = torch.nn.functional.cross_entropy(built.model(images), labels)
    finally:
        for hook in hooks:
            hook.remove()
    found["error"] = [gradient.detach() for gradient in torch.autograd.grad(loss, outputs)]
    found["weight"] = [layer.weight.detach() for layer in layers]
    return found
