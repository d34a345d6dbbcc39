"""A recipe as a table: each signal of training, the slot that says what becomes of it, and the format in words."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, cast

from qbench.errors import InputError
from qbench.quant.formats import (
    Affine,
    Binary,
    Constant,
    Direct,
    FixedPoint,
    Flag,
    Float,
    Levels,
    Quantizer,
    Shift,
    Symmetric,
)
from qbench.recipe import (
    BatchNorm,
    BatchRenorm,
    ClippedMaster,
    DirectNorm,
    LayerScale,
    LevelNorm,
    Norm,
    OnGrid,
    QuantizedMomentum,
    RangeNorm,
    Recipe,
    ShiftStep,
    Update,
)


@dataclass(frozen=True)
class DataPath:
    """One row. path: W, A, E, G, U or N."""

    path: str
    slot: str
    format: str


def data_paths(recipe: Recipe) -> list[DataPath]:
    """The rows of ``recipe``: every path, and of the finer slots those that are in use."""
    rows = [DataPath("W", "weight", describe(recipe.weight)), DataPath("A", "activation", describe(recipe.activation))]
    for path, slot in (("W", "bias"), ("A", "input"), ("A", "output"), ("A", "trunk")):
        spec = getattr(recipe, slot)
        if spec is not None:
            rows.append(DataPath(path, slot, describe(spec)))
    rows.append(DataPath("E", "error", describe(recipe.error) + _ERROR_AT[recipe.error_at]))
    if recipe.wgrad_error != "error":
        line = "the line of norm_error's codes in fused blocks, else " if recipe.wgrad_line else ""
        rows.append(DataPath("E", "wgrad_error", line + describe(recipe.wgrad_error)))
    for slot in ("branch_error", "norm_error"):
        spec = getattr(recipe, slot)
        if spec is not None:
            rows.append(DataPath("E", slot, describe(spec)))
    rows.append(DataPath("G", "gradient", _gradient(recipe)))
    rows.append(DataPath("U", "update", describe_update(recipe.update)))
    rows.append(DataPath("N", "norm", describe_norm(recipe.norm)))
    rows += _exceptions(recipe)
    return sorted(rows, key=lambda row: "WAEGUN".index(row.path))


def _gradient(recipe: Recipe) -> str:
    """The weight gradient's format; two update rules quantise it themselves."""
    update = recipe.update
    if recipe.gradient is None and isinstance(update, QuantizedMomentum):
        return f"{describe(update.gradient)}, by the update"
    if recipe.gradient is None and isinstance(update, ShiftStep) and update.master is not None:
        return "stochastically rounded multiples of the stored weights' step, magnitude discarded, by the update"
    return describe(recipe.gradient)


_ERROR_AT = {"product": "", "activation": ", in front of the ReLU's mask"}


def _exceptions(recipe: Recipe) -> list[DataPath]:
    """What deviates from the rows above: policies of single layers, inference, autocast."""
    rows = []
    for name in ("first_layer", "last_layer"):
        if getattr(recipe, name) == "float" and recipe.converts:
            rows.append(DataPath("W", name, "operands and errors stay float32"))
    if recipe.inference_weight == "float" and recipe.weight is not None:
        rows.append(DataPath("W", "inference_weight", "the float32 copy"))
    if recipe.inference_weight == "ensemble":
        rows.append(DataPath("W", "inference_weight", f"mean output of {recipe.draws} networks rounded at random"))
    if recipe.autocast is not None:
        rows.append(DataPath("A", "autocast", f"products in {recipe.autocast}"))
    return rows


# --- formats in words


def describe(spec: Quantizer | None) -> str:
    """A format in words; ``float32`` for none. A format of a stranger's own describes itself."""
    if spec is None:
        return "float32"
    words = _FORMATS.get(type(spec))
    return str(spec) if words is None else words(spec)


def formats_in_words(text: str) -> str:
    """``text``, as a precision manifest holds it, with each format (``Symmetric(bits=8, ...)``) in words.

    Left as it is: a format of a stranger's own, and one with other fields than this version of qbench gives it.
    """
    return _WRITTEN.sub(lambda found: _in_words(found[0], found["name"]), text)


def _in_words(written: str, name: str) -> str:
    try:
        call = cast("ast.Call", ast.parse(written, mode="eval").body)
        return describe(_NAMED[name](**{str(word.arg): ast.literal_eval(word.value) for word in call.keywords}))
    except (SyntaxError, TypeError, ValueError, InputError):
        return written


def _rounding(spec: Any) -> str:
    return "stochastic rounding" if spec.is_stochastic else "nearest"


def _scales(spec: Any) -> str:
    return "per output channel" if spec.granularity == "channel" else "per tensor"


def _affine(spec: Affine) -> str:
    zero = "whole zero point" if spec.scheme == "zero_point" else "offset at the minimum"
    measured = "mean of the samples' extremes" if spec.range == "mean_minmax" else "extremes"
    tracked = ", tracked for inference" if spec.tracked else ""
    return f"{spec.bits}-bit affine {_scales(spec)}, {zero}, {measured}{tracked}, {_rounding(spec)}"


def _direct(spec: Direct) -> str:
    step = _power(1 - spec.bits)
    limit = "not clipped" if spec.limit is None else f"clipped at ±{spec.limit:g}"
    if spec.limit == 1 - 2.0 ** (1 - spec.bits) and spec.bits > 2:
        limit = f"clipped at ±(1 - {step})"
    return f"multiples of {step} {limit}, {_rounding(spec)}"


def _shift(spec: Shift) -> str:
    step = _power(1 - spec.bits)
    limit = f"R·(1 - {step})" if spec.clip == "inside" else "R"
    return f"{spec.bits}-bit shift: multiples of R·{step} within ±{limit}, R = 2^round(log2 max), nearest"


def _flag(spec: Flag) -> str:
    fine = _power(1 - spec.bits)
    return f"{spec.bits}-bit flag format: shift grid, {fine} times finer below one step of it, nearest"


def _constant(spec: Constant) -> str:
    return f"at most ±{spec.levels - 1} units of {_power(1 - spec.grid_bits)}, magnitude discarded, {_rounding(spec)}"


def _binary(spec: Binary) -> str:
    scale = "the layer's Glorot coefficient" if spec.scale == "glorot" else f"{spec.scale:g}"
    return f"±{scale}, {'drawn at random' if spec.is_stochastic else 'the sign'}"


def _power(exponent: int) -> str:
    return f"2^{exponent}"


_FORMATS: dict[type[Quantizer], Callable[[Any], str]] = {
    Affine: _affine,
    Symmetric: lambda s: f"{s.bits}-bit symmetric {_scales(s)}, {_rounding(s)}",
    Float: lambda s: s.dtype,
    Direct: _direct,
    Shift: _shift,
    Flag: _flag,
    Constant: _constant,
    Binary: _binary,
    FixedPoint: lambda s: f"fixed point <{s.integer_bits}, {s.fraction_bits}>, {_rounding(s)}",
    Levels: lambda s: f"{2**s.bits} levels ({s.grid}) for a unit-variance value, nearest",
}

_NAMED = {kind.__name__: kind for kind in _FORMATS}
_WRITTEN = re.compile(rf"\b(?P<name>{'|'.join(_NAMED)})\(\w+=[^()]*\)")


# --- norms and update rules in words


def describe_norm(norm: Norm) -> str:
    """A normalisation in words."""
    words = _NORMS.get(type(norm))
    return str(norm) if words is None else words(norm)


def describe_update(update: Update) -> str:
    """An update rule in words."""
    words = _UPDATES.get(type(update))
    return str(update) if words is None else words(update)


def _parts(owner: Any) -> str:
    """The formats among an object's fields: ``; mean: multiples of 2^-15 ...``."""
    specs = ((field.name, getattr(owner, field.name)) for field in fields(owner))
    return "".join(f"; {name}: {describe(spec)}" for name, spec in specs if isinstance(spec, Quantizer))


def _chunks(norm: RangeNorm) -> str:
    return "1 chunk" if norm.chunks == 1 else f"mean over {norm.chunks} chunks"


def _grid_step(update: OnGrid) -> str:
    text = f"weights live on the grid {describe(update.grid)}; no float copy"
    if update.batches > 1:
        text += f"; one update per {update.batches} batches"
    return text if update.others is None else f"{text}; other parameters rounded to {describe(update.others)}"


def _quantized_momentum(update: QuantizedMomentum) -> str:
    own = ", the rate on its own schedule" if update.rates else ""
    return f"momentum {update.momentum:g} in integers{own}{_parts(update)}"


def _shift_step(update: ShiftStep) -> str:
    if update.master is None:
        return "the suite's optimiser, float32 weights; initial weights as in WAGE"
    stored = describe(update.master).removesuffix(", nearest")
    return f"stored weights, {stored}, change by stochastically rounded η·G / 2^round(log2 max|G|), η = {update.rate:g}"


_NORMS: dict[type[Norm], Callable[[Any], str]] = {
    BatchNorm: lambda n: "the model's own batch norm, float32",
    RangeNorm: lambda n: f"Range batch norm, constant of the {n.constant} kind, {_chunks(n)}{_parts(n)}",
    DirectNorm: lambda n: f"batch norm on direct grids{_parts(n)}",
    LevelNorm: lambda n: f"batch norm quantised between its halves{_parts(n)}",
    BatchRenorm: lambda n: f"batch renormalisation, float32, r up to {n.r_max:g}, d up to {n.d_max:g}",
    LayerScale: lambda n: "none; a constant power of two per layer" if n.smallest else "none",
}

_UPDATES: dict[type[Update], Callable[[Any], str]] = {
    Update: lambda u: "the suite's optimiser, float32",
    ClippedMaster: lambda u: f"the suite's optimiser on a clipped float32 copy, scale {u.scale}",
    OnGrid: _grid_step,
    QuantizedMomentum: _quantized_momentum,
    ShiftStep: _shift_step,
}
