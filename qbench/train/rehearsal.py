"""A short training of every method with witnesses: the kernels against the reference on what layers give them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from qbench.catalog import methods
from qbench.kernels.witness import Witness
from qbench.nn import Branch, Converted, ConvNormAct, LinearNormAct, convert
from qbench.optim import build_optimizer
from qbench.quant.formats import Symmetric
from qbench.recipe import OnGrid, Recipe
from qbench.train.settings import OptimizerSettings

OWN = "qbench.methods."
"""Where the methods come from that belong to qbench: others may do what they like."""

STEPS, BATCH = 2, 48


class Rehearsed(nn.Module):
    """What networks consist of, small: blocks with a stride, pooling, a residual branch, a linear block, a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = ConvNormAct(3, 8, 3), nn.MaxPool2d(2)
        self.start, self.branch = ConvNormAct(8, 24, 3, stride=2, to_trunk=True), Branch()
        self.inner, self.outer = ConvNormAct(24, 24, 3), ConvNormAct(24, 24, 1, to_trunk=True)
        self.hidden, self.last = LinearNormAct(24 * 9, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, 3, 12, 12] -> [N, 10]."""
        trunk = self.start(self.pool(self.first(x)))
        y: Tensor = self.outer(self.inner(self.branch(trunk)), trunk)
        logits: Tensor = self.last(self.hidden(y.flatten(1)))
        return logits


def differences(device: str) -> dict[str, str]:
    """For every kernel that trainings on ``device`` call: where it first differs from the reference, empty where
    nowhere."""
    witness = Witness()
    devices = range(torch.cuda.device_count())  # named, or PyTorch warns where they are many
    with torch.random.fork_rng(devices), witness:
        for recipe, settings in rehearsed():
            rehearse(recipe, settings, device)
    return witness.differences


def rehearsed() -> Iterator[tuple[Recipe, OptimizerSettings]]:
    """The integer recipes of every method of ours and its presets, with the optimisers that have kernels for them, and
    one with a scale per channel, as a method of somebody else's may have."""
    channels = Symmetric(8, granularity="channel")
    yield Recipe(weight=channels, activation=Symmetric(8)), OptimizerSettings(name="sgd", lr=0.05)
    for entry in methods():
        if not entry.origin.startswith(OWN):
            continue
        method = entry.load()
        for options in ({}, *({"preset": preset} for preset in method.presets)):
            recipe = method.build(options)
            if "integer" in recipe.arithmetics:
                yield recipe, OptimizerSettings(name="sgd", lr=0.05)
            if isinstance(recipe.update, OnGrid):
                yield recipe, OptimizerSettings(name="adam", lr=0.05)


def rehearse(recipe: Recipe, settings: OptimizerSettings, device: str) -> Converted:
    """Train a few steps and evaluate."""
    torch.manual_seed(0)
    converted = convert(Rehearsed().to(device, memory_format=torch.channels_last), recipe)  # type: ignore[call-overload]
    optimizer = build_optimizer(converted, recipe, settings)
    x, labels = torch.randn(BATCH, 3, 12, 12).to(device), torch.randint(10, (BATCH,)).to(device)
    for step in range(STEPS):
        converted.clock.step = step
        optimizer.zero_grad()
        loss = cross_entropy(converted.model(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    converted.model.eval()
    with torch.no_grad():
        converted.predict(x)
    return converted
