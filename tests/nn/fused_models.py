"""Models whose blocks are fused, and the same ones as modules."""

from __future__ import annotations

import torch
from torch import nn

from qbench import Recipe
from qbench.nn import convert
from qbench.nn.convert import QuantizedConvNormAct, QuantizedLinearNormAct


def integer_model(net: nn.Module, recipe: Recipe, *, fused: bool) -> nn.Module:
    """In training and channels last; every block of the network has a fused form."""
    model = convert(net, recipe, arithmetic="integer").model
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not fused:
        unfuse(model)
    return model.train()


def unfuse(model: nn.Module) -> None:
    """Let the modules of every block compute what its fused form did."""
    for module in model.modules():
        if isinstance(module, QuantizedConvNormAct | QuantizedLinearNormAct):
            assert module.fused is not None
            module.fused = None
