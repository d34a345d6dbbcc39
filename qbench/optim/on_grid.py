"""R and SR (Li et al. 2017): weights live on a grid, w <- Q(w - step), and no float copy is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer

from qbench.kernels.random import Key
from qbench.nn import Converted
from qbench.nn.layers import QuantizedLayer, resolve_scale
from qbench.nn.site import nearest_version, tensor_id
from qbench.optim.base import OptimizerConfig, quantized_layers, suite_optimizer
from qbench.quant.formats import Quantizer
from qbench.quant.quantize import quantize
from qbench.recipe import OnGrid


def build(converted: Converted, update: OnGrid, settings: OptimizerConfig) -> Optimizer:
    """The suite's optimiser; after each step every quantised weight is rounded back onto its grid.

    The initial weights are rounded to nearest. The random bits of a weight depend on (seed, its name, step).
    """
    targets = [
        (layer, tensor_id(f"{name}/update"), _grid(update, layer)) for name, layer in quantized_layers(converted)
    ]
    clock = converted.clock

    @torch.no_grad()
    def project(*_: Any) -> None:
        for layer, identity, grid in targets:
            layer.weight.copy_(quantize(grid, layer.weight, Key(clock.seed, identity, clock.step)).dequantize())

    with torch.no_grad():
        for layer, _, grid in targets:
            layer.weight.copy_(quantize(nearest_version(grid), layer.weight, Key(0, 0, 0)).dequantize())
    optimizer = suite_optimizer(converted, settings)
    optimizer.register_step_post_hook(project)
    return optimizer


def _grid(update: OnGrid, layer: QuantizedLayer) -> Quantizer:
    grid = resolve_scale(update.grid, layer.weight)
    assert grid is not None
    return grid
