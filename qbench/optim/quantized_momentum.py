"""WAGEUBN's quantised Momentum (Yang et al. 2020; authors' code, TensorFlow's MomentumOptimizer):

    G = CQ(gradient + decay * W)      a grid of 2^-14, at most dr - 1 units
    Acc <- mom * Q(Acc, 13) + G       mom = 1/4: 2 + 12 = 14 fraction bits
    W <- Q(W, 24) - Q(lr, 10) * Acc   9 + 14 = 23 fraction bits, the grid of a 24-bit weight

so the update itself never rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qbench.kernels.random import Key
from qbench.nn import Converted
from qbench.nn.norms import BatchStatistics
from qbench.nn.site import Clock, tensor_id
from qbench.optim.base import OptimizerConfig, group, is_weight, quantized_layers
from qbench.quant.formats import Constant, Direct, Quantizer
from qbench.quant.quantize import quantize
from qbench.recipe import QuantizedMomentum

INITIAL_WEIGHT = Direct(16)
"""The authors' code rounds weights to 16 bits at creation."""

WEIGHT, NORM, FLOAT = "weight", "norm", "float"


def build(converted: Converted, update: QuantizedMomentum, settings: OptimizerConfig) -> Optimizer:
    """The quantised optimiser. Layers that the recipe keeps in float get the same rule without any rounding."""
    names = {parameter: name for name, parameter in converted.model.named_parameters()}
    kinds = dict.fromkeys(names, FLOAT)
    kinds.update({layer.weight: WEIGHT for _, layer in quantized_layers(converted)})
    for module in converted.model.modules():
        if isinstance(module, BatchStatistics):
            kinds.update(dict.fromkeys((module.weight, module.bias), NORM))
    gathered: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter, kind in kinds.items():
        gathered.setdefault((kind, is_weight(parameter)), []).append(parameter)
    groups = [
        {
            **group(members, settings, lr_scale=update.base_lr / settings.lr),
            "kind": kind,
            "names": [names[p] for p in members],
        }
        for (kind, _), members in gathered.items()
    ]
    return QuantizedMomentumOptimizer(groups, update, converted.clock)


class QuantizedMomentumOptimizer(Optimizer):
    """See the module. Groups carry ``kind`` (weight, norm for gamma and beta, or float) and the ``names``."""

    def __init__(self, groups: list[dict[str, Any]], rule: QuantizedMomentum, clock: Clock) -> None:
        super().__init__(groups, {"lr": 0.0})
        self.rule = rule
        self.clock = clock
        with torch.no_grad():
            for members in self.param_groups:
                if members["kind"] == WEIGHT:
                    for p in members["params"]:
                        p.copy_(_value(_within(INITIAL_WEIGHT, self.rule.weight.limit), p))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for members in self.param_groups:
            for parameter, name in zip(members["params"], members["names"], strict=True):
                if parameter.grad is not None:
                    self._update(parameter, members, tensor_id(f"{name}/gradient"))

    def _update(self, parameter: nn.Parameter, members: dict[str, Any], identity: int) -> None:
        assert parameter.grad is not None
        gradient = parameter.grad + members["weight_decay"] * parameter
        state = self.state[parameter]
        old = state.get("accumulator")
        if old is None:
            old = torch.zeros_like(parameter)
        if members["kind"] == FLOAT:
            state["accumulator"] = self.rule.momentum * old + gradient
            parameter.sub_(members["lr"] * state["accumulator"])
            return
        gradient = self._quantize_gradient(gradient, members["kind"], identity)
        state["accumulator"] = self.rule.momentum * _value(self.rule.accumulator, old) + gradient
        # Q(W, 24) of the rule is left out: W is on that grid from the start and this step keeps it there.
        parameter.sub_(self.learning_rate(members["lr"]) * state["accumulator"])
        limit = self.rule.weight.limit
        if members["kind"] == WEIGHT and limit is not None:
            parameter.clamp_(-limit, limit)

    def _quantize_gradient(self, gradient: Tensor, kind: str, identity: int) -> Tensor:
        if kind == NORM:
            return _value(self.rule.norm_gradient, gradient)
        spec = Constant(self.gradient_levels(), self.rule.gradient.grid_bits)
        return quantize(spec, gradient, Key(self.clock.seed, identity, self.clock.step)).dequantize()

    def gradient_levels(self) -> int:
        """dr at this point of training."""
        return [levels for start, levels in self.rule.levels if self.clock.progress >= start][-1]

    def learning_rate(self, lr: float) -> float:
        """Q(lr, 10): 0.05 becomes 26/512. A rate below half a step becomes 0."""
        steps = 2.0 ** (self.rule.learning_rate.bits - 1)
        return min(round(lr * steps), steps - 1) / steps

    def storage_bytes(self) -> int:
        """Accumulators in 13 bits and master weights in 24 where quantised, 32 bits elsewhere."""
        total = 0
        for members in self.param_groups:
            count = sum(p.numel() for p in members["params"])
            master = self.rule.weight.bits if members["kind"] == WEIGHT else 0
            accumulator = 32 if members["kind"] == FLOAT else self.rule.accumulator.bits
            total += math.ceil(count * (accumulator + master) / 8)
        return total


def _value(spec: Quantizer, x: Tensor) -> Tensor:
    return quantize(spec, x, Key(0, 0, 0)).dequantize()


def _within(spec: Direct, limit: float | None) -> Direct:
    """``spec`` clipped to the largest of its values inside +-limit."""
    step = 2.0 ** (1 - spec.bits)
    return spec if limit is None else Direct(spec.bits, math.floor(limit / step) * step)
