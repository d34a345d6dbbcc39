"""WAGEUBN's quantised Momentum (Yang et al. 2020; authors' code, TensorFlow's MomentumOptimizer):

    G = CQ(gradient + decay * W)      a grid of 2^-14, at most dr - 1 units
    Acc <- mom * Q(Acc, 13) + G       mom = 1/4: 2 + 12 = 14 fraction bits
    W <- Q(W, 24) - Q(lr, 10) * Acc   9 + 14 = 23 fraction bits, the grid of a 24-bit weight

so the update itself never rounds, and it is done in integers: W and Acc are int32 in units of 2^-23 and 2^-14.
Gamma and beta of the norms are rounded to the same grid at the start (a trained norm's are not on it) and stay float32,
which represents such values exactly below 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.kernels.updates import quantized_momentum_
from qbench.nn import Converted
from qbench.nn.clock import Clock, tensor_id
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms import BatchStatistics
from qbench.optim.base import OptimizerConfig, RuleOptimizer, group, is_weight, quantized_layers
from qbench.quant.formats import Direct, Quantizer
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.recipe import QuantizedMomentum

INITIAL_WEIGHT = Direct(16)
"""The authors' code rounds weights to 16 bits at creation."""

WEIGHT, NORM, FLOAT = "weight", "norm", "float"


def build(converted: Converted, update: QuantizedMomentum, settings: OptimizerConfig) -> Optimizer:
    """The quantised optimiser. Layers that the recipe keeps in float get the same rule without any rounding.

    The initial weights are rounded to 16 bits, and from here on the quantised layers hold integers alone; those that
    hold them already, by another optimiser, stay as they are.
    Raises InputError for a rule whose update would have to round.
    """
    _check_exact(update)
    layers = {layer.weight: layer for _, layer in quantized_layers(converted)}
    names = {parameter: name for name, parameter in converted.model.named_parameters()}
    kinds = dict.fromkeys(names, FLOAT)
    kinds.update(dict.fromkeys(layers, WEIGHT))
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
    return QuantizedMomentumOptimizer(groups, layers, update, converted.clock)


def _check_exact(rule: QuantizedMomentum) -> None:
    """Raise InputError unless every product of the rule lies on the grid of what it is added to."""
    quarters, fraction = divmod(rule.momentum * 4, 1)
    if fraction or quarters < 0:
        raise InputError(f"the quantised momentum's factor must be a multiple of 1/4, not {rule.momentum}")
    fractions = rule.gradient.grid_bits - 1
    widths = (rule.accumulator.bits, rule.accumulator.limit, rule.weight.bits)
    exact = (fractions - 1, None, max(fractions + rule.learning_rate.bits, INITIAL_WEIGHT.bits))
    if widths != exact:
        raise InputError(
            f"the quantised momentum rounds nothing with accumulator bits, limit and weight bits {exact}, not {widths}"
        )


class QuantizedMomentumOptimizer(RuleOptimizer):
    """See the module. Groups carry ``kind`` (weight, norm for gamma and beta, or float) and the ``names``.

    layers: those whose weight becomes integers, by the parameter that is the weight until then.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        layers: dict[nn.Parameter, QuantizedLayer],
        rule: QuantizedMomentum,
        clock: Clock,
    ) -> None:
        super().__init__(groups, {"lr": 0.0})
        self.rule = rule
        self.clock = clock
        self._layers = layers
        for layer in layers.values():
            if layer.weight_codes is None:
                layer.adopt(initial_weight(layer.weight.detach(), rule.weight))
        for members in self.param_groups:
            if members["kind"] == NORM:
                _round_to_grid(members["params"], rule.weight.bits)

    def update(self) -> None:
        """One update of every parameter that has a gradient."""
        for members in self.param_groups:
            if members["kind"] != WEIGHT:
                self._update_values([p for p in members["params"] if p.grad is not None], members)
                continue
            for parameter, name in zip(members["params"], members["names"], strict=True):
                if parameter.grad is not None:
                    self._update_codes(parameter, members, tensor_id(f"{name}/gradient"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As PyTorch's, which makes all state as float as its parameter: integers become integers again, exactly."""
        super().load_state_dict(state_dict)
        for parameter in self._layers:
            for name, value in self.state.get(parameter, {}).items():
                self.state[parameter][name] = value.to(torch.int32)

    def _update_codes(self, handle: nn.Parameter, members: dict[str, Any], identity: int) -> None:
        layer = self._layers[handle]
        codes, gradient = layer.weight_codes, handle.grad
        assert codes is not None and gradient is not None
        assert layer.weight_scale is not None
        state = self.state[handle]
        if not state:
            state["accumulator"] = torch.zeros_like(codes)
        quantized_momentum_(
            codes, state["accumulator"], layer.weight_scale, gradient, members["weight_decay"], self.gradient_levels(),
            round(self.rule.momentum * 4), self.lr_code(self.rate(members)), int(self.rule.weight.largest_integer),
            self.clock.key(identity),
        )  # fmt: skip

    def _update_values(self, parameters: list[nn.Parameter], members: dict[str, Any]) -> None:
        """All of a group in one: they are many small vectors, and every operation is by element."""
        if not parameters:
            return
        gradient = _joined([cast(Tensor, p.grad) for p in parameters])
        if members["weight_decay"]:
            gradient = gradient + members["weight_decay"] * _joined(parameters)
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["accumulator"] = torch.zeros_like(parameter)
        old = _joined([self.state[p]["accumulator"] for p in parameters])
        lr = self.rate(members)
        if members["kind"] == NORM:
            gradient = _value(self.rule.norm_gradient, gradient)
            old = _value(self.rule.accumulator, old)
            lr = self.learning_rate(lr)
        new = self.rule.momentum * old + gradient
        # Q(W, 24) of the rule is left out: gamma and beta start on that grid and this step keeps them there.
        torch._foreach_sub_(cast(list[Tensor], parameters), _apart(lr * new, parameters))
        for parameter, accumulator in zip(parameters, _apart(new, parameters), strict=True):
            self.state[parameter]["accumulator"] = accumulator

    def gradient_levels(self) -> int:
        """dr at this point of training."""
        return [levels for start, levels in self.rule.levels if self.clock.progress >= start][-1]

    def rate(self, members: Mapping[str, Any]) -> float:
        """The learning rate of a group at this point, before it is rounded: the suite's, or the rule's own."""
        if not self.rule.rates:
            return float(members["lr"])
        return self.rule.base_lr * [factor for start, factor in self.rule.rates if self.clock.progress >= start][-1]

    def lr_code(self, lr: float) -> int:
        """Q(lr, 10) in units of 2^-9: 0.05 becomes 26. A rate below half a unit becomes 0."""
        steps: int = 2 ** (self.rule.learning_rate.bits - 1)
        return min(round(lr * steps), steps - 1)

    def learning_rate(self, lr: float) -> float:
        """Q(lr, 10): 0.05 becomes 26/512."""
        return float(self.lr_code(lr) * 2.0 ** (1 - self.rule.learning_rate.bits))

    def storage_bytes(self) -> int:
        """Accumulators in 13 bits and master weights in 24 where quantised, 32 bits elsewhere."""
        total = 0
        for members in self.param_groups:
            count = sum(p.numel() for p in members["params"])
            master = self.rule.weight.bits if members["kind"] == WEIGHT else 0
            accumulator = 32 if members["kind"] == FLOAT else self.rule.accumulator.bits
            total += math.ceil(count * (accumulator + master) / 8)
        return total


def initial_weight(weight: Tensor, master: Direct) -> QTensor:
    """``weight`` rounded to 16 bits inside the master's limit, as int32 codes of the master's format."""
    q = quantize(weight, _within(INITIAL_WEIGHT, master.limit), Key(0, 0, 0))
    assert q.scale is not None
    finer = 2 ** (master.bits - INITIAL_WEIGHT.bits)
    return QTensor(q.codes.to(torch.int32) * finer, q.scale / finer, None, master)


@torch.no_grad()
def _round_to_grid(parameters: Sequence[nn.Parameter], bits: int) -> None:
    """Q(x, bits) in place; exact, as it scales by powers of two."""
    steps = 2.0 ** (bits - 1)
    for parameter in parameters:
        parameter.copy_((parameter * steps).round() / steps)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Their elements, row-major, one tensor after another."""
    return torch.cat([tensor.flatten() for tensor in tensors])


def _apart(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of :func:`_joined`: views of ``flat`` in these shapes."""
    parts = flat.split([tensor.numel() for tensor in like])  # type: ignore[no-untyped-call]
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def _value(spec: Quantizer, x: Tensor) -> Tensor:
    return quantize(x, spec, Key(0, 0, 0)).dequantize()


def _within(spec: Direct, limit: float | None) -> Direct:
    """``spec`` clipped to the largest of its values inside +-limit."""
    step = 2.0 ** (1 - spec.bits)
    return spec if limit is None else Direct(spec.bits, math.floor(limit / step) * step)
