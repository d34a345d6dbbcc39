"""What optimisers of weights that live as codes share: the codes have a rule of their own, all else the suite's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from qbench.kernels.random import Key
from qbench.nn import Converted
from qbench.nn.clock import tensor_id
from qbench.nn.layers import QuantizedLayer
from qbench.nn.site import nearest_version
from qbench.optim.base import OptimizerConfig, RuleOptimizer, suite_optimizer
from qbench.quant.formats import Quantizer
from qbench.quant.quantize import rounded

GATHERED = "gathered"
"""Key of the optimiser's state under which gradients of earlier batches wait."""


class CodedOptimizer(RuleOptimizer):
    """Updates codes by :meth:`update_codes` and the float parameters by the suite's optimiser.

    members: the group of the coded weights' handles, with ``lr``, ``base_lr`` and ``weight_decay``; it comes first, and
    the groups and the state of the float parameters' optimiser are shared with it, so all are seen here.
    batches: one update per so many steps, with their mean gradient. others: the grid that the float parameters are
    rounded to after each of their steps, and at the start.
    """

    def __init__(
        self,
        members: dict[str, Any],
        layers: dict[nn.Parameter, tuple[str, QuantizedLayer]],
        converted: Converted,
        settings: OptimizerConfig,
        *,
        batches: int = 1,
        others: Quantizer | None = None,
    ) -> None:
        super().__init__([members], {"lr": settings.lr})
        self.layers = {parameter: layer for parameter, (_, layer) in layers.items()}
        self.clock = converted.clock
        self._identities = {parameter: tensor_id(f"{name}/update") for parameter, (name, _) in layers.items()}
        self.batches = batches
        self._others = others
        floats = {id(parameter) for parameter in converted.parameters()}
        named = ((name, p) for name, p in converted.model.named_parameters() if id(p) in floats)
        self._roundings = {parameter: tensor_id(f"{name}/update") for name, parameter in named}
        self._rest = suite_optimizer(converted, settings) if self._roundings else None
        if self._rest is not None:
            self.param_groups += self._rest.param_groups
            self._rest.state = self.state
        if others is not None:
            self._round_others(nearest_version(others))

    @abstractmethod
    def update_codes(self, handle: nn.Parameter, members: dict[str, Any]) -> None:
        """Change the codes behind ``handle`` in place by its ``grad``."""

    def key_of(self, handle: nn.Parameter) -> Key:
        """Of the random bits of this step's update."""
        return self.clock.key(self._identities[handle])

    def update(self) -> None:
        """One update of every parameter that has a gradient, or none while gradients are gathered."""
        if not self._gathered():
            return
        members = self.param_groups[0]
        for handle in members["params"]:
            if handle.grad is not None:
                self.update_codes(handle, members)
        if self._rest is not None:
            self._rest.step()
        if self._others is not None:
            self._round_others(self._others)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As PyTorch's, which leaves gathered gradients on their device and a part of the state that is loaded; the
        optimiser of the float parameters gets its part."""
        super().load_state_dict(state_dict)
        waiting: dict[Any, Any] = self.state.pop(GATHERED, {})  # type: ignore[call-overload]
        if waiting:
            gathered = {i: waiting[i].to(p.device) for i, p in enumerate(self._parameters()) if i in waiting}
            self.state[GATHERED] = {"batches": waiting["batches"], **gathered}  # type: ignore[index]
        if self._rest is not None:
            self._rest.param_groups = self.param_groups[1:]
            self._rest.state = self.state

    def _gathered(self) -> bool:
        """Add the gradients to those of earlier batches; when enough are there, true, and ``grad`` is their mean."""
        if self.batches == 1:
            return True
        waiting: dict[Any, Any] = self.state[GATHERED]  # type: ignore[index]
        waiting["batches"] = waiting.get("batches", 0) + 1
        is_due: bool = waiting["batches"] == self.batches
        for place, parameter in enumerate(self._parameters()):
            total = waiting.get(place)
            if parameter.grad is not None:
                total = parameter.grad.clone() if total is None else parameter.grad + total
            if total is None or not parameter.requires_grad:  # frozen since
                continue
            if is_due:
                parameter.grad = total / self.batches
            else:
                waiting[place] = total
        if is_due:
            waiting.clear()
        return is_due

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for members in self.param_groups for parameter in members["params"])

    @torch.no_grad()
    def _round_others(self, spec: Quantizer) -> None:
        for parameter, identity in self._roundings.items():
            parameter.copy_(rounded(parameter, spec, self.clock.key(identity)))
