"""From a float model and a recipe to a low-precision model: blocks are replaced, never patched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms import build_norm
from qbench.nn.norms.base import FloatNorm
from qbench.nn.site import Clock, GradientSite, Site, ValueSite
from qbench.quant.formats import Quantizer
from qbench.recipe import Arithmetic, Recipe


class QuantizedConvNormAct(nn.Module):
    """:class:`~qbench.nn.blocks.ConvNormAct` under a recipe, with a site at each point where it may quantise."""

    def __init__(self, block: ConvNormAct, layer: Recipe, recipe: Recipe, name: str, clock: Clock) -> None:
        super().__init__()
        self.conv = QuantizedLayer(cast(nn.Conv2d, block.conv), layer, f"{name}.conv", clock)
        self.norm = build_norm(cast(FloatNorm, block.norm), recipe.norm, f"{name}.norm", clock)
        self.norm_error = _gradient_site(recipe.norm_error, f"{name}/norm_error", clock)
        self.activation = block.activation
        self.trunk = _value_site(recipe.trunk if block.to_trunk else None, f"{name}/trunk", clock)
        inner_error = None if block.to_trunk else recipe.branch_error
        self.branch_error = _gradient_site(inner_error, f"{name}/branch_error", clock)

    def forward(self, x: Tensor, trunk: Tensor | None = None) -> Tensor:
        """As the float block: x [N, C_in, H, W], trunk [N, C_out, H', W'] added before the activation."""
        y: Tensor = self.norm_error(self.norm(self.conv(x)))
        if trunk is not None:
            y = y + trunk
        if self.activation:
            y = torch.relu(y)
        return cast(Tensor, self.branch_error(self.trunk(y)))


class QuantizedLinearNormAct(nn.Module):
    """:class:`~qbench.nn.blocks.LinearNormAct` under a recipe."""

    def __init__(self, block: LinearNormAct, layer: Recipe, recipe: Recipe, name: str, clock: Clock) -> None:
        super().__init__()
        self.linear = QuantizedLayer(cast(nn.Linear, block.linear), layer, f"{name}.linear", clock)
        self.norm = build_norm(cast(FloatNorm, block.norm), recipe.norm, f"{name}.norm", clock)
        self.norm_error = _gradient_site(recipe.norm_error, f"{name}/norm_error", clock)
        self.branch_error = _gradient_site(recipe.branch_error, f"{name}/branch_error", clock)

    def forward(self, x: Tensor) -> Tensor:
        """As the float block: x [N, in_features] -> [N, out_features]."""
        return cast(Tensor, self.branch_error(torch.relu(self.norm_error(self.norm(self.linear(x))))))


@dataclass(frozen=True)
class ManifestEntry:
    """One data path of one layer: what the recipe declares and what was seen while training."""

    layer: str
    path: str
    declared: str
    arithmetic: str
    code_min: float | None = None
    code_max: float | None = None
    needs_bits: int | None = None
    note: str = ""


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
        seen = [_describe(site, self.arithmetic) for site in self.sites()]
        for name, layer in self.layers():
            if not isinstance(layer, QuantizedLayer) or layer.is_float:
                seen.append(ManifestEntry(name, "all", "float32", "float", note=self._why_float()))
        return seen

    def _why_float(self) -> str:
        if not self.recipe.converts:
            return "the method is a float method"
        return "the recipe keeps this layer's operands in float"

    def model_bytes(self) -> int:
        """Bytes of an inference checkpoint in the method's own storage format.

        Weights with a weight format take its bits plus one float32 per scale; everything else is counted as stored.
        """
        total = sum(t.numel() * t.element_size() for t in self._plain_state())
        return total + sum(_weight_bytes(layer) for _, layer in self.layers() if isinstance(layer, QuantizedLayer))

    def _plain_state(self) -> Iterator[Tensor]:
        weights = {id(layer.weight) for _, layer in self.layers() if isinstance(layer, QuantizedLayer)}
        yield from (p for p in self.model.parameters() if id(p) not in weights)
        yield from (b for b in self.model.buffers() if b.is_floating_point())


def convert(
    model: nn.Module, recipe: Recipe, *, seed: int = 0, arithmetic: Arithmetic = "simulated", always: bool = False
) -> Converted:
    """Replace the blocks of ``model`` (in place) as ``recipe`` says.

    seed: of the recipe's own random bits. always: replace blocks even where the recipe quantises nothing, which the
    null contract uses to show that the machinery itself changes no number; otherwise such a recipe keeps the model.
    Raises ValueError where the recipe does not offer ``arithmetic``.
    """
    if arithmetic not in recipe.arithmetics:
        raise ValueError(f"the recipe offers {', '.join(recipe.arithmetics)} arithmetic, not {arithmetic}")
    clock = Clock(seed)
    if recipe.converts or always:
        first, last = _ends(model)
        _replace_children(model, recipe, _Ends(first, last), "", clock)
    if recipe.transform is not None:
        model = recipe.transform(model)
    return Converted(model, recipe, arithmetic, clock)


@dataclass(frozen=True)
class _Ends:
    """The first and the last layer, which have a policy of their own."""

    first: nn.Module
    last: nn.Module

    def recipe_for(self, layer: nn.Module, recipe: Recipe) -> Recipe:
        keeps_float = (layer is self.first and recipe.first_layer == "float") or (
            layer is self.last and recipe.last_layer == "float"
        )
        return recipe.with_float_operands() if keeps_float else recipe


def _ends(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers, "a model without convolution or linear layers has nothing to convert"
    return layers[0], layers[-1]


def _replace_children(module: nn.Module, recipe: Recipe, ends: _Ends, prefix: str, clock: Clock) -> None:
    for name, child in list(module.named_children()):
        path = f"{prefix}.{name}" if prefix else name
        new = _replacement(child, recipe, ends, path, clock)
        if new is None:
            _replace_children(child, recipe, ends, path, clock)
        else:
            setattr(module, name, new)


def _replacement(child: nn.Module, recipe: Recipe, ends: _Ends, path: str, clock: Clock) -> nn.Module | None:
    """What stands in for ``child``; None for a container whose children are to be looked at."""
    if isinstance(child, ConvNormAct):
        return QuantizedConvNormAct(child, ends.recipe_for(child.conv, recipe), recipe, path, clock)
    if isinstance(child, LinearNormAct):
        return QuantizedLinearNormAct(child, ends.recipe_for(child.linear, recipe), recipe, path, clock)
    if isinstance(child, nn.Conv2d | nn.Linear):
        return QuantizedLayer(child, ends.recipe_for(child, recipe), path, clock)
    if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
        return build_norm(child, recipe.norm, path, clock)
    if isinstance(child, Branch) and recipe.branch_error is not None:
        return GradientSite(recipe.branch_error, f"{path}/branch_error", clock)
    return None


def _gradient_site(spec: Quantizer | None, name: str, clock: Clock) -> nn.Module:
    return nn.Identity() if spec is None else GradientSite(spec, name, clock)


def _value_site(spec: Quantizer | None, name: str, clock: Clock) -> nn.Module:
    return nn.Identity() if spec is None else ValueSite(spec, name, clock)


def _describe(site: Site, arithmetic: Arithmetic) -> ManifestEntry:
    layer, _, path = site.name.rpartition("/")
    low = None if site.code_min is None else float(site.code_min)
    high = None if site.code_max is None else float(site.code_max)
    return ManifestEntry(layer, path, str(site.spec), arithmetic, low, high, _width(low, high))


def _width(low: float | None, high: float | None) -> int | None:
    """The smallest integer width that holds codes from ``low`` to ``high``; unsigned where none is negative."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    if low >= 0:
        return max(int(high).bit_length(), 1)
    return max((int(-low) - 1).bit_length(), int(max(high, 0)).bit_length()) + 1


def _weight_bytes(layer: QuantizedLayer) -> int:
    site = layer.weight_site
    if site is None or layer.inference_weight == "float":
        return layer.weight.numel() * layer.weight.element_size()
    per_channel = getattr(site.spec, "granularity", "tensor") == "channel"
    scales = layer.weight.shape[0] if per_channel else 1
    return math.ceil(layer.weight.numel() * site.spec.storage_bits / 8) + 4 * scales
