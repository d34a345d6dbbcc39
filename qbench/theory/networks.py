"""Small networks trained inside an experiment, by the code that trains every cell of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from qbench.catalog import find_method
from qbench.cell import Cell, Outcome, Status
from qbench.recipe import Arithmetic
from qbench.theory.progress import Progress
from qbench.train import build_cell, train_cell
from qbench.train.device import float_kernels
from qbench.train.loop import Training
from qbench.train.settings import OptimizerSettings, ScheduleSettings, TrainSettings

EpochDone = Callable[[int, Training], None]


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


def adam(epochs: int, batch_size: int, lr: float, *, augment: bool = True, constant: bool = False) -> TrainSettings:
    """Adam with a cosine schedule, or a constant rate; as in the suite ``digits`` but for the labels."""
    return TrainSettings(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=OptimizerSettings(name="adam", lr=lr),
        schedule=ScheduleSettings(name="constant" if constant else "cosine"),
        augment=augment,
        eval_every=epochs,
    )


def accuracy(cell: Cell, progress: Progress, start: float, end: float) -> float:
    """Test accuracy in percent after training; NaN where the run diverged."""
    outcome: Outcome = train_cell(
        cell, lambda state: progress(start + (end - start) * state.step / max(state.steps, 1))
    )
    return outcome.top1 if outcome.status is Status.OK and outcome.top1 is not None else float("nan")


def train(cell: Cell, after_epoch: EpochDone) -> Training:
    """Train all epochs of ``cell``; ``after_epoch`` is called with the epoch, 0 before the first, and the run.

    Raises DivergedError where the loss is no number.
    """
    built = build_cell(cell)
    training = Training(built, lambda _: None)
    after_epoch(0, training)
    with float_kernels(reproducible=True):
        for epoch in range(built.plan.epochs):
            training.train_epoch(epoch)
            after_epoch(epoch + 1, training)
    return training


def signals(training: Training, images: Tensor, labels: Tensor) -> dict[str, list[Tensor]]:
    """Weights, activations (inputs) and errors (gradients of the outputs) of every convolution and linear layer of a
    float network, in the order of the network, for one batch in training mode."""
    built = training.built
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
