"""The suite's optimiser on float parameters, and the split of parameters that update rules need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from qbench.nn import Converted
from qbench.nn.layers import QuantizedLayer


class OptimizerConfig(Protocol):
    """What an optimiser needs to know; :class:`qbench.train.settings.OptimizerSettings` is one."""

    @property
    def name(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...


class SuiteOptimizer(Optimizer):
    """What the suite's optimisers do behind PyTorch's step: see :func:`_behind_step`.

    limits: parameters that are clipped to +-limit. Copies, and what was saved and loaded, go on in the same way: of its
    own accord PyTorch copies groups and state alone.
    """

    limits: dict[nn.Parameter, float]

    def _begin(self, limits: Mapping[nn.Parameter, float]) -> None:
        self.limits = dict(limits)
        self.register_step_post_hook(_behind_step)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "limits": self.limits}

    def __setstate__(self, state: dict[str, Any]) -> None:
        is_copy = not hasattr(self, "limits")  # and not one that loads a state
        super().__setstate__(state)
        if is_copy:
            self.register_step_post_hook(_behind_step)


class SuiteSGD(SuiteOptimizer, torch.optim.SGD):
    """PyTorch's SGD."""


class SuiteAdam(SuiteOptimizer, torch.optim.Adam):
    """PyTorch's Adam."""


class RuleOptimizer(Optimizer, ABC):
    """An optimiser of one converted model's parameters, which are all in its groups from the start.

    Copied or saved together with the model, it is the copy's.
    """

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        self._is_complete = False
        super().__init__(groups, defaults)
        self._is_complete = True

    @abstractmethod
    def update(self) -> None:
        """Change every parameter that has a gradient."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update. closure: computes loss and gradients before it; its result is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        """The rule too, where PyTorch's is groups and state alone; what was hooked onto this one stays with it."""
        return {name: value for name, value in vars(self).items() if name != "step" and not name.endswith("_hooks")}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises ValueError: whose rule should further parameters follow? Give them an optimiser of their own."""
        if self._is_complete:
            raise ValueError(
                "the update rule has all parameters of its model already: give others an optimiser of their own"
            )
        super().add_param_group(param_group)


def quantized_layers(converted: Converted) -> Iterator[tuple[str, QuantizedLayer]]:
    """The layers whose weight has a low-precision format."""
    for name, layer in converted.layers():
        if isinstance(layer, QuantizedLayer) and layer.weight_site is not None:
            yield name, layer


def is_weight(parameter: nn.Parameter) -> bool:
    """Convolution and linear weights are decayed; norms and biases are not."""
    return parameter.dim() > 1


def group(parameters: list[nn.Parameter], settings: OptimizerConfig, *, lr_scale: float = 1.0) -> dict[str, Any]:
    """One parameter group: its learning rate is the suite's times ``lr_scale``."""
    decay = settings.weight_decay if parameters and is_weight(parameters[0]) else 0.0
    base_lr = settings.lr * lr_scale
    return {"params": parameters, "lr": base_lr, "base_lr": base_lr, "weight_decay": decay}


def suite_optimizer(
    converted: Converted,
    settings: OptimizerConfig,
    lr_scales: Mapping[nn.Parameter, float] | None = None,
    limits: Mapping[nn.Parameter, float] | None = None,
) -> SuiteOptimizer:
    """SGD or Adam as the suite says, on the parameters that hold their own values (at least one).

    lr_scales: parameters whose learning rate is multiplied by a factor. limits: those that each step clips to +-limit.
    """
    scales = lr_scales or {}
    # Parameters with equal settings share a group: each group is a launch of the fused optimiser of its own.
    gathered: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in converted.parameters():
        is_decayed = settings.weight_decay > 0 and is_weight(parameter)
        gathered.setdefault((is_decayed, scales.get(parameter, 1.0)), []).append(parameter)
    groups = [group(members, settings, lr_scale=scale) for (_, scale), members in gathered.items()]
    optimizer: SuiteOptimizer
    if settings.name == "adam":
        optimizer = SuiteAdam(groups, lr=settings.lr, betas=(settings.momentum, settings.beta2), fused=True)
    else:
        momentum, nesterov = settings.momentum, settings.nesterov
        optimizer = SuiteSGD(groups, lr=settings.lr, momentum=momentum, nesterov=nesterov, fused=True)
    optimizer._begin(limits or {})
    return optimizer


def _behind_step(optimizer: SuiteOptimizer, *_: Any) -> None:
    """Count the changes, as PyTorch's other optimisers do: its fused ones change parameters without a trace, and a
    second backward pass through a graph of the old values would be silently wrong. Clip what has a limit.

    Of the parameters that this step moved alone: the backward pass may still need the others.
    """
    moved = [p for members in optimizer.param_groups for p in members["params"] if p.grad is not None]
    increment_version(moved)
    if optimizer.limits:
        _clip(moved, optimizer.limits)


@torch.no_grad()
def _clip(parameters: Iterable[nn.Parameter], limits: Mapping[nn.Parameter, float]) -> None:
    for parameter in parameters:
        limit = limits.get(parameter)
        if limit is not None:
            parameter.clamp_(-limit, limit)
