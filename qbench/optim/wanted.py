"""What an update rule would do to the weights without rounding or clipping, computed beside it in float64.

Called between the backward pass and the update: it reads gradients and the optimiser's state and changes neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qbench.kernels.reference.encode import power_of_two
from qbench.nn.coded import CodedWeight
from qbench.optim.on_grid import ADAM_EPS, OnGridOptimizer
from qbench.optim.quantized_momentum import QuantizedMomentumOptimizer
from qbench.optim.shift_step import ShiftStepOptimizer, shift_rate
from qbench.quant.ranges import largest_magnitude

Group = Mapping[str, Any]


@torch.no_grad()
def wanted_change(optimizer: Optimizer, module: nn.Module) -> Tensor:
    """The change of ``module``'s weight that the next ``optimizer.step()`` makes, exactly: float64 of its shape.

    module: a layer whose ``weight`` has its gradient and is one of the optimiser's. Of a rule that discards the
    gradient's magnitude this is the change before its rounding: learning rate and scale are the rule's own.
    """
    parameter: nn.Parameter = module.weight  # type: ignore[assignment]
    members = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    state = optimizer.state.get(parameter, {})
    is_coded = isinstance(module, CodedWeight) and module.weight_codes is not None
    rule = _CODED[type(optimizer)] if is_coded else _FLOAT.get(type(optimizer), _suite)
    return rule(optimizer, members, module, state)


def _suite(optimizer: Any, members: Group, module: nn.Module, state: Group) -> Tensor:
    """The suite's optimiser on a float weight."""
    decayed = _decayed(members, module)
    if "betas" in members:
        moments = state.get("exp_avg"), state.get("exp_avg_sq")
        return adam_change(decayed, *moments, int(state.get("step", 0)), members["lr"], *members["betas"])
    buffer = state.get("momentum_buffer")
    return sgd_change(decayed, buffer, members["lr"], members["momentum"], members["nesterov"])


def _on_grid(optimizer: OnGridOptimizer, members: Group, module: nn.Module, state: Group) -> Tensor:
    decayed, settings = _decayed(members, module), optimizer.settings
    if settings.name == "adam":
        moments = state.get("exp_avg"), state.get("exp_avg_sq")
        betas = settings.momentum, settings.beta2
        return adam_change(decayed, *moments, state.get("steps", 0), members["lr"], *betas)
    buffer = state.get("momentum_buffer")
    return sgd_change(decayed, buffer, members["lr"], settings.momentum, settings.nesterov)


def _shift_step(optimizer: ShiftStepOptimizer, members: Group, module: nn.Module, state: Group) -> Tensor:
    assert isinstance(module, CodedWeight) and module.weight_scale is not None
    gradient = _gradient(module)
    power = power_of_two(largest_magnitude(gradient)).double()
    return -shift_rate(members["lr"]) * gradient.double() / power * module.weight_scale.double()


def _quantized_momentum(
    optimizer: QuantizedMomentumOptimizer, members: Group, module: nn.Module, state: Group
) -> Tensor:
    gradient = _decayed(members, module)
    power = power_of_two(largest_magnitude(gradient.float())).double()
    unit = 2.0 ** (1 - optimizer.rule.gradient.grid_bits)
    old = state["accumulator"].double() if state else torch.zeros_like(gradient)
    new = optimizer.rule.momentum * old + optimizer.gradient_levels() * gradient / power
    return -optimizer.learning_rate(optimizer.rate(members)) * unit * new


def _unrounded_momentum(
    optimizer: QuantizedMomentumOptimizer, members: Group, module: nn.Module, state: Group
) -> Tensor:
    """The same rule on a weight that stays float."""
    gradient = _decayed(members, module)
    old = state["accumulator"].double() if state else torch.zeros_like(gradient)
    return -optimizer.rate(members) * (optimizer.rule.momentum * old + gradient)


_Rule = Callable[[Any, Group, nn.Module, Group], Tensor]
_CODED: dict[type[Optimizer], _Rule] = {
    OnGridOptimizer: _on_grid,
    ShiftStepOptimizer: _shift_step,
    QuantizedMomentumOptimizer: _quantized_momentum,
}
"""The rule of weights that live as codes, by optimiser."""

_FLOAT: dict[type[Optimizer], _Rule] = {QuantizedMomentumOptimizer: _unrounded_momentum}
"""The rule of float weights, where it is not the suite's."""


def sgd_change(gradient: Tensor, buffer: Tensor | None, lr: float, momentum: float, nesterov: bool) -> Tensor:
    """-lr * d with b = gradient at first, else momentum * b + gradient, and d = gradient + momentum * b (Nesterov) or
    b. gradient: with the weight decay, float64."""
    if not momentum:
        return -lr * gradient
    new = gradient if buffer is None else momentum * buffer.double() + gradient
    return -lr * (gradient + momentum * new if nesterov else new)


def adam_change(
    gradient: Tensor, mean: Tensor | None, square: Tensor | None, steps: int, lr: float, beta1: float, beta2: float
) -> Tensor:
    """-lr * m' / (sqrt(v') + eps), m' and v' the moments after this step (number ``steps`` + 1) without their bias
    (Kingma, Ba 2015). gradient: with the weight decay, float64."""
    zero = torch.zeros_like(gradient)
    m = beta1 * (zero if mean is None else mean.double()) + (1 - beta1) * gradient
    v = beta2 * (zero if square is None else square.double()) + (1 - beta2) * gradient.square()
    m, v = m / (1 - beta1 ** (steps + 1)), v / (1 - beta2 ** (steps + 1))
    return -lr * m / (v.sqrt() + ADAM_EPS)


def _decayed(members: Group, module: nn.Module) -> Tensor:
    """The gradient plus the decay of the stored weight, float64."""
    decay: float = members["weight_decay"]
    return _gradient(module).double() + decay * stored_value(module).double()


def _gradient(module: nn.Module) -> Tensor:
    gradient = module.weight.grad
    assert isinstance(gradient, Tensor), "the weight has no gradient"
    return gradient


def stored_value(module: nn.Module) -> Tensor:
    """The weight as the update rule keeps it, as float32: the master's value where it lives as codes."""
    master = module.master if isinstance(module, CodedWeight) else None
    if master is not None:
        return master.dequantize()
    assert isinstance(module.weight, Tensor)
    return module.weight.detach()
