"""The precision manifest: what each data path of each layer declares, and what was seen of it while training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from qbench.nn.fused.bounded import BoundedBlock
from qbench.nn.fused.range import RangeBlock
from qbench.nn.integer import why_float
from qbench.nn.layers import QuantizedLayer
from qbench.nn.site import Site
from qbench.recipe import Arithmetic, Recipe

PRODUCTS = {
    "forward": ("activation", "weight"),
    "input gradient": ("error", "weight"),
    "weight gradient": ("activation", "wgrad_error"),
}
"""The three products of a layer and the paths they multiply."""


OF_BLOCKS = ("norm_error", "branch_error", "trunk")
"""Slots of a recipe that layers and norms by themselves have no place for."""

WHOLE = "(model)"


@dataclass(frozen=True)
class ManifestEntry:
    """One data path of one layer, or of the model as a whole.

    arithmetic: ``integer`` where the codes are multiplied and added up as integers (scales come behind the sums),
    ``simulated`` where float kernels stand for it, ``float`` where the path, or what it is multiplied with, is float.
    note: what of it is float, and why.
    """

    layer: str
    path: str
    declared: str
    arithmetic: str
    code_min: float | None = None
    code_max: float | None = None
    needs_bits: int | None = None
    note: str = ""


def entries(model: nn.Module, arithmetic: Arithmetic, recipe: Recipe) -> Iterator[ManifestEntry]:
    """One entry per site that is in use, and one for each error that is a line of codes, each module with weights and
    no site, each norm that stayed as it was, and each slot of the recipe that no block of the model has."""
    paths = set()
    for entry in _of_sites(model, arithmetic):
        paths.add(entry.path)
        yield entry
    for name, module in model.named_modules():
        why = _why_float(module, recipe)
        if why:
            yield ManifestEntry(name, "all", "float32", "float", note=why)
    for path in OF_BLOCKS:
        spec = getattr(recipe, path)
        if spec is not None and path not in paths:
            note = "no module of this model has a place for it: blocks of qbench.nn have"
            yield ManifestEntry(WHOLE, path, str(spec), "float", note=note)


def _of_sites(model: nn.Module, arithmetic: Arithmetic) -> Iterator[ManifestEntry]:
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantizedLayer)}
    fused = [getattr(module, "fused", None) for module in model.modules()]
    blocks = [block for block in fused if isinstance(block, RangeBlock)]
    outputs = {id(block.output) for block in fused if isinstance(block, BoundedBlock)}
    norm_sites = {id(site) for block in blocks for site in block.sites}
    lines = {id(block.layer) for block in blocks if block.takes_line}
    for module in model.modules():
        if not isinstance(module, Site):
            continue
        owner, _, path = module.name.rpartition("/")
        layer = layers.get(owner)
        if id(layer) in lines and path == "wgrad_error":
            continue
        kind, note = "float", "rounded to its grid, then used as float32"
        if layer is not None:
            kind, note = _of_product_path(layer, path, arithmetic, id(layer) in lines)
        elif id(module) in norm_sites:
            kind = arithmetic
            note = "sums and extremes of the codes are integers; the norm is one line per channel of them, in float32"
        elif id(module) in outputs:
            kind, note = arithmetic, "the next layers multiply these codes; a residual addition is in float32"
        yield _entry(module, owner, path, kind, note)
        if layer is not None and id(layer) in lines and path == "error":
            yield _of_line(owner, layer, arithmetic)


def _why_float(module: nn.Module, recipe: Recipe) -> str:
    """Why no path of a module with parameters of its own is quantised; empty where one is, or where there is none."""
    if isinstance(module, QuantizedLayer):
        return "the recipe keeps this layer's operands in float" if module.is_float else ""
    kind = type(module).__name__
    if isinstance(module, _BatchNorm):
        return f"{kind} is not a norm that is converted" if recipe.norm.replaces else ""
    if any(parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
        return f"{kind} is not a layer that is converted" if recipe.converts else "the method is a float method"
    return ""


def _of_line(name: str, layer: QuantizedLayer, arithmetic: Arithmetic) -> ManifestEntry:
    """Of an error that the weight gradient takes as a line of codes."""
    site = layer.wgrad_error_site
    elsewhere = "the error's codes" if layer.shares_error else "float32" if site is None else str(site.spec)
    note = f"the line comes behind the sums of the codes, in float64; {elsewhere} where the norm is in evaluation"
    return ManifestEntry(name, "wgrad_error", "line of norm_error's codes", arithmetic, note=note)


def _of_product_path(layer: QuantizedLayer, path: str, arithmetic: Arithmetic, takes_line: bool) -> tuple[str, str]:
    """Arithmetic of the products that ``path`` is a factor of, and what keeps any of them in float.

    takes_line: whether the weight gradient's error is a line of codes.
    """
    sites = {
        "activation": layer.activation_site, "weight": layer.weight_site, "error": layer.error_site,
        "wgrad_error": layer.error_site if layer.shares_error else layer.wgrad_error_site,
    }  # fmt: skip
    paths = {"error", "wgrad_error"} if path == "error" and layer.shares_error else {path}
    if path not in sites:
        return "float", "rounded to its grid, then used as float32"
    reasons = []
    for product, factors in PRODUCTS.items():
        if paths.isdisjoint(factors):
            continue
        for factor in factors:
            if factor == "wgrad_error" and takes_line:
                continue
            site = sites[factor]
            reason = why_float(site.spec if site else None, per_channel=product == "forward" and factor == "weight")
            if reason:
                reasons.append(f"{product}: {factor.replace('_', ' ')} in float, {reason}")
    return ("float", "; ".join(reasons)) if reasons else (arithmetic, "")


def _entry(site: Site, layer: str, path: str, arithmetic: str, note: str) -> ManifestEntry:
    low = None if site.seen.low is None else float(site.seen.low)
    high = None if site.seen.high is None else float(site.seen.high)
    return ManifestEntry(layer, path, str(site.spec), arithmetic, low, high, width(low, high), note)


def width(low: float | None, high: float | None) -> int | None:
    """The smallest integer width that holds codes from ``low`` to ``high``; unsigned where none is negative."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return None
    if low >= 0:
        return max(int(high).bit_length(), 1)
    return max((int(-low) - 1).bit_length(), int(max(high, 0)).bit_length()) + 1
