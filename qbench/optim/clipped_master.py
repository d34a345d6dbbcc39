"""BinaryConnect's update (Courbariaux, Bengio, David 2015): a clipped float master copy, steps scaled per layer."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from qbench.nn import Converted
from qbench.nn.layers import QuantizedLayer, glorot_coefficient
from qbench.optim.base import OptimizerConfig, quantized_layers, suite_optimizer
from qbench.recipe import ClippedMaster


def build(converted: Converted, update: ClippedMaster, settings: OptimizerConfig) -> Optimizer:
    """The suite's optimiser with scaled learning rates, and decays scaled against them, clipping the binary layers'
    weights after each step.

    The shared initial weights keep their signs and are scaled to the spread of the authors' uniform(-limit, limit);
    weights that were loaded into the converted model, or that another optimiser has started, are a training's, and stay
    as they are.
    """
    layers = [layer for _, layer in quantized_layers(converted)]
    limits = {layer.weight: limit_of(layer, update) for layer in layers}
    for layer in layers:
        if not layer.is_started:
            spread_out(layer, limits[layer.weight])
            layer.is_started = True
    scales = {layer.weight: lr_scale(layer, update, settings.name) for layer in layers}
    optimizer = suite_optimizer(converted, settings, scales, limits)
    for members in optimizer.param_groups:
        members["weight_decay"] *= decay_scale(members["base_lr"] / settings.lr, settings.name)
    return optimizer


def limit_of(layer: QuantizedLayer, update: ClippedMaster) -> float:
    """Where the master copy is clipped: the binary values themselves."""
    return glorot_coefficient(layer.weight) if update.scale == "glorot" else 1.0


def lr_scale(layer: QuantizedLayer, update: ClippedMaster, optimizer: str) -> float:
    """1/c for Adam, whose steps do not depend on the gradient's size, and 1/c^2 for SGD (authors' code; derived)."""
    if update.scale != "unit":
        return 1.0
    return float(glorot_coefficient(layer.weight) ** (-1 if optimizer == "adam" else -2))


def decay_scale(lr_scale: float, optimizer: str) -> float:
    """c^2 of a learning rate's scale: weights 1/c as large, whose gradients are c times as large, decay as strongly as
    those of the other parametrisation."""
    return lr_scale ** (-2 if optimizer == "adam" else -1)


@torch.no_grad()
def spread_out(layer: QuantizedLayer, limit: float) -> None:
    """Scale a weight to the standard deviation of uniform(-limit, limit), limit / sqrt(3), and clip it."""
    rms = layer.weight.square().mean().sqrt()
    if rms > 0:
        layer.weight.mul_(limit / 3**0.5 / rms).clamp_(-limit, limit)
