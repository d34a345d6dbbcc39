"""R and SR (Li et al. 2017): weights live on a grid, w <- Q(w - step), and no float copy is kept.

The codes are changed in place by the kernels of :mod:`qbench.kernels.updates`; a float weight exists for one element
at a time, inside the kernel. Gradients, momentum and Adam's moments are float32, as for the suite's own optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qbench.kernels.checks import dense
from qbench.kernels.random import Key
from qbench.kernels.updates import adam_on_grid_, poison_, sgd_on_grid_
from qbench.nn import Converted
from qbench.nn.layers import QuantizedLayer, resolve_scale
from qbench.nn.site import nearest_version
from qbench.optim.base import OptimizerConfig, group, quantized_layers, suite_optimizer
from qbench.optim.coded import CodedOptimizer
from qbench.quant.formats import Binary, Direct, FixedPoint, Quantizer
from qbench.quant.quantize import quantize
from qbench.recipe import OnGrid

ADAM_EPS = 1e-8
"""PyTorch's default, which the suite's own Adam has."""


@dataclass(frozen=True)
class Grid:
    """A fixed grid as the kernels take it: values code * scale, codes clipped to [low, high]."""

    scale: float
    low: float
    high: float
    rounding: str

    @property
    def is_stochastic(self) -> bool:
        """Whether a step draws random bits."""
        return self.rounding.endswith("stochastic")


def grid_of(spec: Quantizer) -> Grid:
    """The grid of a format whose scale is a number of its own."""
    if isinstance(spec, Binary):
        assert isinstance(spec.scale, float | int), "a glorot scale is resolved per layer before"
        return Grid(float(spec.scale), -1, 1, "binary_stochastic" if spec.is_stochastic else "binary")
    top = spec.largest_integer
    if isinstance(spec, FixedPoint):
        return Grid(2.0**-spec.fraction_bits, -top, top - 1, "stochastic" if spec.is_stochastic else "half_up")
    assert isinstance(spec, Direct), spec
    return Grid(2.0 ** (1 - spec.bits), -top, top, spec.rounding)


def build(converted: Converted, update: OnGrid, settings: OptimizerConfig) -> Optimizer:
    """The optimiser of the codes, and the suite's own for everything else.

    The initial weights are rounded to nearest, and from here on the layers hold codes alone; those that are codes
    already, by another optimiser, stay as they are. The random bits of a weight depend on (seed, its name, step).
    """
    layers, grids = {}, {}
    for name, layer in quantized_layers(converted):
        spec = resolve_scale(update.grid, layer.weight)
        assert spec is not None
        if layer.weight_codes is None:
            layer.adopt(quantize(layer.weight.detach(), nearest_version(spec), Key(0, 0, 0)))
        layers[layer.weight] = (name, layer)
        grids[layer.weight] = grid_of(spec)
    if not layers:
        return suite_optimizer(converted, settings)
    return OnGridOptimizer(grids, layers, converted, settings, update)


class OnGridOptimizer(CodedOptimizer):
    """SGD or Adam on codes."""

    def __init__(
        self,
        grids: dict[nn.Parameter, Grid],
        layers: dict[nn.Parameter, tuple[str, QuantizedLayer]],
        converted: Converted,
        settings: OptimizerConfig,
        update: OnGrid,
    ) -> None:
        members = group(list(grids), settings)
        super().__init__(members, layers, converted, settings, batches=update.batches, others=update.others)
        self._grids = grids
        self.settings = settings

    def update_codes(self, handle: nn.Parameter, members: dict[str, Any]) -> None:
        """w <- Q(w - step), with the step that the suite's optimiser would take."""
        layer = self.layers[handle]
        codes, scale = layer.weight_codes, layer.weight_scale
        assert codes is not None and scale is not None and handle.grad is not None
        gradient = dense(handle.grad)  # autograd leaves it row-major, codes are channels-last
        grid = self._grids[handle]
        place = (grid.scale, grid.low, grid.high, grid.rounding, self.key_of(handle) if grid.is_stochastic else None)
        if self.settings.name == "adam":
            self._adam(codes, gradient, self.state[handle], members, place)
        else:
            self._sgd(codes, gradient, self.state[handle], members, place)
        poison_(scale, gradient)

    def _sgd(
        self, codes: Tensor, gradient: Tensor, state: dict[str, Any], members: dict[str, Any], place: tuple[Any, ...]
    ) -> None:
        momentum = self.settings.momentum
        is_first = "momentum_buffer" not in state
        if is_first and momentum:
            state["momentum_buffer"] = torch.empty_like(codes, dtype=torch.float32)
        sgd_on_grid_(
            codes, gradient, state.get("momentum_buffer"), members["lr"], members["weight_decay"], momentum,
            self.settings.nesterov, is_first, *place,
        )  # fmt: skip

    def _adam(
        self, codes: Tensor, gradient: Tensor, state: dict[str, Any], members: dict[str, Any], place: tuple[Any, ...]
    ) -> None:
        if not state:
            state["exp_avg"] = torch.zeros_like(codes, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(codes, dtype=torch.float32)
            state["steps"] = 0
        state["steps"] += 1
        adam_on_grid_(
            codes, gradient, state["exp_avg"], state["exp_avg_sq"], members["lr"], self.settings.momentum,
            self.settings.beta2, ADAM_EPS, state["steps"], members["weight_decay"], *place,
        )  # fmt: skip
