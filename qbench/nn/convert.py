"""From a float model and a recipe to a low-precision model: blocks are replaced, never patched."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.nn.block_end import EndParts, block_end
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.clock import Clock
from qbench.nn.coded import CodedWeight
from qbench.nn.eligible import check_model, is_layer, layers_of
from qbench.nn.fused import BlockParts, fused_block
from qbench.nn.layers import QuantizedLayer
from qbench.nn.manifest import ManifestEntry, entries
from qbench.nn.norms import build_norm
from qbench.nn.norms.base import FloatNorm
from qbench.nn.norms.layer_scale import ScaledLayer, layer_scale
from qbench.nn.pooling import CompactMaxPool
from qbench.nn.site import GradientSite, Site, ValueSite, site_for
from qbench.nn.uncompiled import uncompiled
from qbench.quant.formats import Quantizer
from qbench.recipe import Arithmetic, LayerScale, Recipe


@dataclass(frozen=True)
class _Context:
    """What every replaced module needs to know."""

    recipe: Recipe
    clock: Clock
    arithmetic: Arithmetic
    first: nn.Module
    last: nn.Module

    def placed(self, module: nn.Module) -> nn.Module:
        """``module`` with its sites on the device of its parameters, or of the last layer's where it has none."""
        parameter = next(module.parameters(), cast(Tensor, self.last.weight))
        for part in module.modules():
            if isinstance(part, Site):
                part.to(parameter.device)
        return module

    def layer_recipe(self, layer: nn.Module) -> Recipe:
        """The recipe of one layer: the first and the last have a policy of their own."""
        keeps_float = (layer is self.first and self.recipe.first_layer == "float") or (
            layer is self.last and self.recipe.last_layer == "float"
        )
        if keeps_float:
            return self.recipe.with_float_operands()
        if layer is self.first and self.recipe.input is not None:
            return replace(self.recipe, activation=self.recipe.input)
        return self.recipe

    def layer(self, layer: nn.Conv2d | nn.Linear, name: str) -> QuantizedLayer:
        """The layer under its recipe."""
        return QuantizedLayer(layer, self.layer_recipe(layer), name, self.clock, self.arithmetic)

    def bare_layer(self, layer: nn.Conv2d | nn.Linear, name: str) -> QuantizedLayer:
        """A layer that no norm follows: a layer scale is then its own."""
        if not isinstance(self.recipe.norm, LayerScale):
            return self.layer(layer, name)
        scaled = ScaledLayer(layer, self.layer_recipe(layer), name, self.clock, self.arithmetic)
        scaled.alpha = layer_scale(layer.weight, self.recipe.norm)
        return scaled

    def norm(self, norm: FloatNorm, name: str, layer: QuantizedLayer | None = None) -> nn.Module:
        """The recipe's norm in place of the float one. layer: the one in front of it."""
        return build_norm(norm, self.recipe.norm, name, self.clock, None if layer is None else layer.weight)

    def gradient_site(self, spec: Quantizer | None, name: str) -> nn.Module:
        """A site for the gradient, or nothing where it stays float."""
        return nn.Identity() if spec is None else GradientSite(spec, name, self.clock)

    def value_site(self, spec: Quantizer | None, name: str) -> nn.Module:
        """A site for the value, or nothing where it stays float."""
        return nn.Identity() if spec is None else ValueSite(spec, name, self.clock)

    def output_site(self, name: str) -> Site | None:
        """A site for a block's output, where that is an activation already."""
        is_activation = self.recipe.error_at == "activation"
        return site_for(self.recipe.activation if is_activation else None, name, self.clock)


class QuantizedConvNormAct(nn.Module):
    """:class:`~qbench.nn.blocks.ConvNormAct` under a recipe, with a site at each point where it may quantise."""

    def __init__(self, block: ConvNormAct, name: str, context: _Context) -> None:
        super().__init__()
        recipe = context.recipe
        self.conv = context.layer(cast(nn.Conv2d, block.conv), f"{name}.conv")
        self.norm = context.norm(cast(FloatNorm, block.norm), f"{name}.norm", self.conv)
        self.norm_error = context.gradient_site(recipe.norm_error, f"{name}/norm_error")
        self.output = context.output_site(f"{name}/output")
        self.trunk = context.value_site(recipe.trunk if block.to_trunk else None, f"{name}/trunk")
        inner_error = None if block.to_trunk else recipe.branch_error
        self.branch_error = context.gradient_site(inner_error, f"{name}/branch_error")
        parts = EndParts(self.norm_error, block.activation, self.trunk, self.branch_error)
        self.end = block_end(recipe, self.norm, parts)
        self.fused = fused_block(
            BlockParts(
                recipe, context.layer_recipe(block.conv), self.conv, self.norm, self.norm_error, self.branch_error,
                self.trunk, self.output, block.activation,
            )
        )  # fmt: skip

    @uncompiled
    def forward(self, x: Tensor, trunk: Tensor | None = None) -> Tensor:
        """As the float block: x [N, C_in, H, W], trunk [N, C_out, H', W'] added before the activation."""
        if self.fused is not None and self.fused.serves:
            return self.fused(x, trunk)
        return self.end(self.norm(self.conv(x)), trunk)


class QuantizedLinearNormAct(nn.Module):
    """:class:`~qbench.nn.blocks.LinearNormAct` under a recipe."""

    def __init__(self, block: LinearNormAct, name: str, context: _Context) -> None:
        super().__init__()
        recipe = context.recipe
        self.linear = context.layer(cast(nn.Linear, block.linear), f"{name}.linear")
        self.norm = context.norm(cast(FloatNorm, block.norm), f"{name}.norm", self.linear)
        self.norm_error = context.gradient_site(recipe.norm_error, f"{name}/norm_error")
        self.branch_error = context.gradient_site(recipe.branch_error, f"{name}/branch_error")
        self.end = block_end(recipe, self.norm, EndParts(self.norm_error, True, nn.Identity(), self.branch_error))
        self.output = context.output_site(f"{name}/output")
        self.fused = fused_block(
            BlockParts(
                recipe, context.layer_recipe(block.linear), self.linear, self.norm, self.norm_error, self.branch_error,
                nn.Identity(), self.output, True,
            )
        )  # fmt: skip

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """As the float block: x [N, in_features] -> [N, out_features]."""
        if self.fused is not None and self.fused.serves:
            return self.fused(x, None)
        return self.end(self.norm(self.linear(x)), None)


@dataclass
class Converted:
    """A model ready to train: the model, the clock its sites share, and what can be said about it."""

    model: nn.Module
    recipe: Recipe
    arithmetic: Arithmetic
    clock: Clock = field(default_factory=Clock)

    def sites(self) -> Iterator[Site]:
        """Every place where a tensor is quantised."""
        return (module for module in self.model.modules() if isinstance(module, Site))

    def layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Every convolution and linear layer, quantised or float."""
        kinds = (QuantizedLayer, nn.Conv2d, nn.Linear)
        return ((name, module) for name, module in self.model.named_modules() if isinstance(module, kinds))

    def manifest(self) -> list[ManifestEntry]:
        """What each data path of each layer really did, as far as training has shown by now."""
        return list(entries(self.model, self.arithmetic, self.recipe))

    def model_bytes(self) -> int:
        """Bytes of an inference checkpoint in the method's own storage format.

        Weights with a weight format take its bits plus one float32 per scale; everything else is counted as stored.
        """
        total = sum(t.numel() * t.element_size() for t in self._plain_state())
        return total + sum(_weight_bytes(layer) for _, layer in self.layers() if isinstance(layer, QuantizedLayer))

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that hold their own values: all but the handles of weights that live as codes."""
        coded = (m for m in self.model.modules() if isinstance(m, CodedWeight) and m.weight_codes is not None)
        handles = {id(module.weight) for module in coded}
        return (parameter for parameter in self.model.parameters() if id(parameter) not in handles)

    def precision(self) -> AbstractContextManager[object]:
        """The context of a forward pass: ``torch.autocast`` where the recipe asks for it, as ``bf16`` does."""
        if self.recipe.autocast is None:
            return nullcontext()
        device = next(self.model.parameters()).device
        return torch.autocast(device.type, getattr(torch, self.recipe.autocast))

    def predict(self, images: Tensor) -> Tensor:
        """The model's outputs for ``images``; in evaluation mode the mean over the networks of an ensemble, where the
        recipe asks for one."""
        if self.model.training or self.recipe.inference_weight != "ensemble":
            return cast(Tensor, self.model(images))
        return sum(self._members(images), torch.zeros(())) / self.recipe.draws

    def _members(self, images: Tensor) -> Iterator[Tensor]:
        """The outputs of the ensemble's networks, one after the other."""
        for draw in range(self.recipe.draws):
            self.clock.draw = draw
            yield self.model(images)
        self.clock.draw = 0

    def _plain_state(self) -> Iterator[Tensor]:
        layers = [layer for _, layer in self.layers() if isinstance(layer, QuantizedLayer)]
        weights = {id(tensor) for layer in layers for tensor in (layer.weight, *layer.weight_buffers())}
        yield from (p for p in self.model.parameters() if id(p) not in weights)
        yield from (b for b in self.model.buffers() if b.is_floating_point() and id(b) not in weights)


def convert(
    model: nn.Module, recipe: Recipe, *, seed: int = 0, arithmetic: Arithmetic = "integer", always: bool = False
) -> Converted:
    """Replace the blocks of ``model`` (in place) as ``recipe`` says.

    The first and the last layer, which may have a policy of their own, are those in the order of ``model.modules()``.
    seed: of the recipe's own random bits. always: replace blocks even where the recipe quantises nothing, which the
    null contract uses to show that the machinery itself changes no number; otherwise such a recipe keeps the model.
    Layers are nn.Conv2d and nn.Linear themselves, and norms nn.BatchNorm1d and 2d; other modules with weights,
    subclasses of these included, stay as they are, and the manifest says so.
    Raises ValueError where the recipe does not offer ``arithmetic``, InputError for a model that cannot be converted or
    a method in place of its recipe.
    """
    if not isinstance(recipe, Recipe):
        kind = type(recipe).__name__
        raise InputError(
            f"convert takes a qbench.Recipe, not {kind}; a method makes one: find_method(NAME).build({{}})"
        )
    if arithmetic not in recipe.arithmetics:
        raise ValueError(f"the recipe offers {', '.join(recipe.arithmetics)} arithmetic, not {arithmetic}")
    clock = Clock(seed)
    if recipe.converts or always:
        check_model(model, replaces_norms=recipe.norm.replaces)
        layers = [layer for _, layer in layers_of(model)]
        _replace_children(model, "", _Context(recipe, clock, arithmetic, layers[0], layers[-1]), {})
    if recipe.transform is not None:
        model = recipe.transform(model)
        if not isinstance(model, nn.Module):
            raise InputError(f"a transform returns the model, and this one returned {type(model).__name__}; return it")
    return Converted(model, recipe, arithmetic, clock)


def _replace_children(module: nn.Module, prefix: str, context: _Context, known: dict[nn.Module, nn.Module]) -> None:
    """known: what stands in for modules met before, which may be met again in another place."""
    for name, child in list(module._modules.items()):  # named_children would leave the second place out
        if child is None:
            continue
        path = f"{prefix}.{name}" if prefix else name
        new = known[child] if child in known else _replacement(child, path, context)
        if new is None:
            _replace_children(child, path, context, known)
        else:
            known[child] = context.placed(new).train(child.training)
            setattr(module, name, new)


def _replacement(child: nn.Module, path: str, context: _Context) -> nn.Module | None:
    """What stands in for ``child``; None for a container whose children are to be looked at."""
    if is_layer(child):
        return context.bare_layer(child, path)
    build = _REPLACEMENTS.get(type(child))
    return None if build is None else build(child, path, context)


def _compact_pool(pool: nn.MaxPool2d, path: str, context: _Context) -> nn.Module | None:
    return CompactMaxPool(pool) if CompactMaxPool.replaces(pool) else None


def _branch(branch: Branch, path: str, context: _Context) -> nn.Module | None:
    spec = context.recipe.branch_error
    return None if spec is None else GradientSite(spec, f"{path}/branch_error", context.clock)


def _norm(norm: FloatNorm, path: str, context: _Context) -> nn.Module:
    return context.norm(norm, path)


_Builder = Callable[[Any, str, _Context], nn.Module | None]
_REPLACEMENTS: dict[type[nn.Module], _Builder] = {
    ConvNormAct: QuantizedConvNormAct,
    LinearNormAct: QuantizedLinearNormAct,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _compact_pool,
    Branch: _branch,
}
"""What replaces which modules of a float model, besides its layers: by the exact type, as for layers."""


def _weight_bytes(layer: QuantizedLayer) -> int:
    site = layer.weight_site
    if site is None or layer.inference_weight != "quantized":
        return layer.weight.numel() * layer.weight.element_size()
    per_channel = getattr(site.spec, "granularity", "tensor") == "channel"
    scales = layer.weight.shape[0] if per_channel else 1
    return math.ceil(layer.weight.numel() * site.spec.storage_bits / 8) + 4 * scales
