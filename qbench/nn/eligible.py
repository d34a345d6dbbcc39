"""What can be converted: layers that a recipe may replace, and models that :func:`qbench.nn.convert` refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from qbench.errors import InputError
from qbench.nn.blocks import ConvNormAct, LinearNormAct

Layer = nn.Conv2d | nn.Linear

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps what is called before and behind it."""


def is_layer(module: nn.Module) -> TypeGuard[Layer]:
    """Whether a recipe may replace ``module``: by its exact type, because a subclass may compute something else."""
    return type(module) in (nn.Conv2d, nn.Linear)


def layers_of(model: nn.Module) -> list[tuple[str, Layer]]:
    """Every layer that a recipe may replace, with its name, in the order of the modules."""
    return [(name, module) for name, module in model.named_modules() if is_layer(module)]


def check_model(model: nn.Module, *, replaces_norms: bool) -> None:
    """Raises InputError for a model that no recipe could be followed in: what is wrong, and where.

    replaces_norms: whether batch norms are to be replaced too.
    """
    if is_layer(model):
        raise InputError("the model is a single layer, which cannot be replaced in itself: put it into nn.Sequential")
    if not layers_of(model):
        raise InputError("the model has no convolution (nn.Conv2d) and no nn.Linear: there is nothing to convert")
    for reason in (*_obstacles(model), *_shared_weights(model), *_hooks(model, replaces_norms)):
        raise InputError(f"the model cannot be converted: {reason}")


def padding_of(layer: nn.Conv2d) -> tuple[int, ...] | None:
    """Rows and columns of zeros on each side; None where the layer pads otherwise."""
    if layer.padding_mode != "zeros":
        return None
    if not isinstance(layer.padding, str):
        return layer.padding
    if layer.padding == "valid":
        return (0, 0)
    both = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    return None if any(total % 2 for total in both) else tuple(total // 2 for total in both)


def _obstacles(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            yield f"{name or 'it'} is an nn.TransformerEncoderLayer, which evaluates past the layers it holds"
        if any(isinstance(one, UninitializedParameter) for one in module._parameters.values()):
            yield f"{name} has no weight yet; run a batch through the model first"
        if is_layer(module):
            yield from _obstacles_in(name, module)
        if type(module) in (ConvNormAct, LinearNormAct):
            part = "conv" if isinstance(module, ConvNormAct) else "linear"
            layer = getattr(module, part)
            if not is_layer(layer):
                yield f"{name}.{part} is {type(layer).__name__}, and only an nn.Conv2d or nn.Linear itself can be there"


def _obstacles_in(name: str, layer: Layer) -> Iterator[str]:
    weight = layer._parameters.get("weight")
    if weight is None:
        yield f"the weight of {name} is computed from others (torch.nn.utils.parametrize or weight_norm)"
    elif weight.dtype != torch.float32:
        yield f"{name} is {_type_name(weight)}, and only float32 can be; call model.float() first"
    elif isinstance(layer, nn.Conv2d) and padding_of(layer) is None:
        yield f"{name} pads with {layer.padding_mode} ({layer.padding}); only zeros, as many on both sides, can be"


def _shared_weights(model: nn.Module) -> Iterator[str]:
    layers = {id(layer.weight): name for name, layer in layers_of(model)}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            owner = layers.get(id(parameter), name)
            if owner != name:
                yield f"{owner} and {name} share one weight; use one module in both places"


def _hooks(model: nn.Module, replaces_norms: bool) -> Iterator[str]:
    kinds = (nn.Conv2d, nn.Linear, ConvNormAct, LinearNormAct, *((nn.BatchNorm1d, nn.BatchNorm2d) * replaces_norms))
    for name, module in model.named_modules():
        if type(module) in kinds and any(getattr(module, hooks) for hooks in HOOKS):
            yield f"what takes the place of {name} would not call its hooks; register them on the converted model"


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
