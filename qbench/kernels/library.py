"""The kernels as PyTorch operators: ``torch.ops.qbench.*``.

Each is declared once, with its schema and the shapes of its results. What computes it is chosen per device at its
first call by :mod:`qbench.kernels.backends`. The functions of qbench/kernels (products, line_gradient, encoding,
passes, direct, bounded, updates, packing, pooling, blocks) check their arguments and call these; the operators
themselves compare the devices and trust all else.

Tensors are dense: channels-last with four dimensions, row-major otherwise (the factors of ``matmul`` may have any
strides). A key is four integers, [seed, tensor, step, generator], or None to round to nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from qbench.kernels import backends, fakes

NAMESPACE = "qbench"

GEOMETRY = "int[] stride, int[] padding, int[] dilation, int groups"
X, W, E = "Tensor x, Tensor? x_zero", "Tensor w, Tensor? w_zero", "Tensor e, Tensor? e_zero"
VIEW = "Tensor codes, Tensor slope, Tensor offset, bool relu"
AFFINE = "Tensor low, Tensor high, int bits, bool integer_zero_point, int[]? key"
SCALED = "Tensor magnitude, str kind, float divisor, float low, float high, str rounding, int[]? key, ScalarType dtype"
REPLACED = "Tensor? at, Tensor? values"
GRID = "float scale, float low, float high, str rounding, int[]? key"
LEVELS = "Tensor codes, Tensor table, Tensor slope, Tensor offset, bool relu"
BOUNDED = "Tensor y, float inverse, Tensor? trunk, Tensor? trunk_scale, bool relu, float limit"
DIRECT = "Tensor x, Tensor mean, Tensor inverse, float unit, float top, Tensor slope, Tensor offset, bool relu"

SCHEMAS = {
    "conv2d": f"({X}, {W}, {GEOMETRY}, bool wide) -> Tensor",
    "conv2d_input_grad": f"({E}, {W}, SymInt[] input_shape, {GEOMETRY}, bool wide) -> Tensor",
    "conv2d_weight_grad": f"({X}, {E}, SymInt[] weight_shape, {GEOMETRY}, bool wide) -> Tensor",
    "matmul": "(Tensor a, Tensor? a_zero, Tensor b, Tensor? b_zero, bool wide) -> Tensor",
    "conv2d_scaled": f"({X}, Tensor x_scale, {W}, Tensor w_scale, Tensor? bias, {GEOMETRY}) -> (Tensor, Tensor)",
    "conv2d_encoded": (
        f"({X}, Tensor x_scale, {W}, Tensor w_scale, Tensor? bias, {GEOMETRY}, Tensor low, Tensor high, int bits, "
        "bool integer_zero_point) -> (Tensor, Tensor, Tensor)"
    ),
    "conv2d_input_grad_scaled": (
        f"({E}, Tensor e_scale, {W}, Tensor w_scale, SymInt[] input_shape, {GEOMETRY}) -> Tensor"
    ),
    "add_conv2d_input_grad_": (f"(Tensor(a!) total, {E}, Tensor e_scale, {W}, Tensor w_scale, {GEOMETRY}) -> ()"),
    "conv2d_weight_grad_scaled": (
        f"({X}, Tensor x_scale, {E}, Tensor e_scale, SymInt[] weight_shape, {GEOMETRY}) -> Tensor"
    ),
    "conv2d_weight_grad_line": (
        f"({X}, Tensor x_scale, Tensor e, Tensor slope, Tensor mean, Tensor pull, Tensor at, "
        f"SymInt[] weight_shape, {GEOMETRY}) -> Tensor"
    ),
    "matmul_scaled": (
        "(Tensor a, Tensor? a_zero, Tensor a_scale, Tensor b, Tensor? b_zero, Tensor b_scale, Tensor? bias) -> Tensor"
    ),
    "extremes": "(Tensor x) -> Tensor",
    "encode_affine": f"(Tensor x, {AFFINE}) -> (Tensor, Tensor, Tensor)",
    "encode_scaled": f"(Tensor x, {SCALED}) -> (Tensor, Tensor)",
    "encode_channels": "(Tensor x, float top, int[]? key, ScalarType dtype) -> (Tensor, Tensor)",
    "decode_channels": "(Tensor codes, Tensor scale) -> Tensor",
    "encode_flag": "(Tensor x, Tensor magnitude, int bits) -> (Tensor, Tensor)",
    "encode_binary": "(Tensor x, Tensor scale, int[]? key) -> (Tensor, Tensor)",
    "encode_levels": "(Tensor x, Tensor thresholds) -> Tensor",
    "look_up": "(Tensor codes, Tensor table) -> Tensor",
    "decode": "(Tensor codes, Tensor scale, Tensor? zero) -> Tensor",
    "chunk_statistics": "(Tensor codes, int chunks) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    "encode_affine_view": f"({VIEW}, {AFFINE}, {REPLACED}) -> (Tensor, Tensor, Tensor)",
    "encode_scaled_view": f"({VIEW}, {SCALED}, {REPLACED}) -> (Tensor, Tensor)",
    "view_extremes": f"({VIEW}, {REPLACED}) -> Tensor",
    "affine_view": f"({VIEW}, Tensor? trunk) -> (Tensor, Tensor, Tensor)",
    "apply_mask": "(Tensor g, Tensor mask) -> (Tensor, Tensor)",
    "rectify": "(Tensor x, Tensor? trunk) -> (Tensor, Tensor, Tensor)",
    "join_gradients": "(Tensor codes, Tensor scale, Tensor? g, Tensor? mask) -> Tensor",
    "view_gradient_extremes": f"(Tensor g, {VIEW}) -> Tensor",
    "encode_view_gradient_": (
        f"(Tensor g, Tensor(a!) codes, Tensor slope, Tensor offset, bool relu, {AFFINE}) -> (Tensor, Tensor, Tensor)"
    ),
    "range_line": (
        "(Tensor sums, Tensor lows, Tensor highs, int rows, Tensor scale, Tensor zero, Tensor weight, Tensor bias, "
        "float constant, float eps, bool relu) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
    "range_gradient_line": (
        "(Tensor sums, int rows, Tensor scale, Tensor zero, Tensor step, Tensor mean, Tensor inverse, Tensor weight, "
        "float constant, Tensor codes, Tensor low_at, Tensor high_at) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    ),
    "encode_ranged": ("(Tensor x, int bits, bool integer_zero_point, int[]? key) -> (Tensor, Tensor, Tensor, Tensor)"),
    "round_scaled": f"(Tensor x, {SCALED}) -> Tensor",
    "range_norm": (
        "(Tensor y, Tensor low, Tensor high, int bits, int[]? key, int chunks, Tensor weight, Tensor bias, "
        f"float constant, float eps, bool relu) -> ({', '.join(['Tensor'] * 12)})"
    ),
    "range_norm_gradient_": (
        "(Tensor g, Tensor? mask, Tensor? window, int[]? pool, Tensor(a!) normalised, Tensor slope, Tensor offset, "
        "bool relu, int bits, int[]? key, Tensor step, Tensor mean, Tensor inverse, Tensor weight, float constant, "
        f"Tensor low_at, Tensor high_at) -> ({', '.join(['Tensor'] * 11)})"
    ),
    "encode_error": (
        "(Tensor codes, Tensor slope, Tensor offset, Tensor at, Tensor values, int bits, int[]? key) "
        "-> (Tensor, Tensor, Tensor)"
    ),
    "encode_error_pair": (
        "(Tensor codes, Tensor slope, Tensor offset, Tensor at, Tensor values, int bits, int[]? key, float top, "
        f"str rounding, int[]? wide_key, ScalarType dtype) -> ({', '.join(['Tensor'] * 5)})"
    ),
    "moments": "(Tensor x) -> (Tensor, Tensor, Tensor, Tensor)",
    "move_average_": "(Tensor(a!) average, Tensor value, float weight) -> ()",
    "level_line": (
        "(Tensor mean, Tensor variance, Tensor weight, Tensor bias, int rows, float eps) "
        f"-> ({', '.join(['Tensor'] * 5)})"
    ),
    "level_gradient_line": (f"(Tensor sums, int rows, Tensor inverse, Tensor weight) -> ({', '.join(['Tensor'] * 5)})"),
    "encode_normalised_levels": "(Tensor x, Tensor mean, Tensor inverse, Tensor thresholds) -> Tensor",
    "level_view": f"({LEVELS}, Tensor? trunk) -> (Tensor, Tensor, Tensor)",
    "level_gradient_sums": f"(Tensor g, {LEVELS}) -> Tensor",
    "level_gradient": f"(Tensor g, {LEVELS}, Tensor a, Tensor b, Tensor c) -> Tensor",
    "direct_line": (
        "(Tensor mean, Tensor variance, Tensor weight, Tensor bias, float[] grids, float unit, float eps) "
        f"-> ({', '.join(['Tensor'] * 7)})"
    ),
    "direct_gradient_line": (
        "(Tensor sums, int rows, float unit, Tensor inverse, Tensor weight, Tensor over_deviation, Tensor shift) "
        f"-> ({', '.join(['Tensor'] * 5)})"
    ),
    "direct_view": f"({DIRECT}, Tensor? trunk) -> (Tensor, Tensor)",
    "encode_direct_view": f"({DIRECT}, float scale, float low, float high, ScalarType dtype) -> (Tensor, Tensor)",
    "direct_gradient_sums": f"(Tensor g, Tensor? g_scale, {DIRECT}) -> Tensor",
    "direct_gradient": f"(Tensor g, Tensor? g_scale, {DIRECT}, Tensor a, Tensor b, Tensor c) -> (Tensor, Tensor)",
    "bounded_values": f"({BOUNDED}) -> (Tensor, Tensor, Tensor)",
    "encode_bounded": (
        f"({BOUNDED}, float scale, float low, float high, ScalarType dtype) -> (Tensor, Tensor, Tensor, Tensor)"
    ),
    "encode_bounded_error": (
        "(Tensor g, Tensor? joined, Tensor? joined_scale, Tensor passed, Tensor unclipped, float divisor, float top, "
        "ScalarType dtype) -> (Tensor, Tensor)"
    ),
    "sgd_on_grid_": (
        "(Tensor(a!) codes, Tensor grad, Tensor(b!)? momentum, float lr, float weight_decay, float mu, bool nesterov, "
        f"bool first, {GRID}) -> ()"
    ),
    "adam_on_grid_": (
        "(Tensor(a!) codes, Tensor grad, Tensor(b!) m, Tensor(c!) v, float lr, float beta1, float beta2, float eps, "
        f"int step, float weight_decay, {GRID}) -> ()"
    ),
    "quantized_momentum_": (
        "(Tensor(a!) weight, Tensor(b!) accumulator, Tensor(c!) scale, Tensor grad, float weight_decay, int levels, "
        "int momentum_quarters, int lr_code, int limit, int[]? key) -> ()"
    ),
    "shift_step_": "(Tensor(a!) codes, Tensor(b!) scale, Tensor grad, float eta, int limit, int[]? key) -> ()",
    "poison_": "(Tensor(a!) scale, Tensor x) -> ()",
    "pack_bits": "(Tensor codes, int bits) -> Tensor",
    "unpack_bits": "(Tensor packed, int bits, SymInt[] shape) -> Tensor",
    "max_pool2d": "(Tensor x, int[] kernel, int[] stride, int[] padding) -> (Tensor, Tensor)",
    "max_pool2d_view": (
        "(Tensor codes, Tensor? table, Tensor slope, Tensor offset, bool relu, int[] kernel, int[] stride, "
        "int[] padding) -> (Tensor, Tensor)"
    ),
    "max_pool2d_direct_view": f"({DIRECT}, int[] kernel, int[] stride, int[] padding) -> (Tensor, Tensor)",
    "max_pool2d_backward": (
        "(Tensor g, Tensor window, SymInt[] input_shape, int[] kernel, int[] stride, int[] padding) -> Tensor"
    ),
}
"""Name and signature of every operator. No argument has a default: PyTorch would leave such arguments out."""


def _entry(name: str, device: str) -> Callable[..., Any]:
    """The operator's kernel for one device: whatever :mod:`backends` has chosen."""
    chosen, place, on_cpu = backends.CHOSEN, (name, device), device == "cpu"

    def run(first: torch.Tensor, *rest: Any) -> Any:
        # A kernel would follow an address into memory that it does not reach.
        for x in rest:
            if isinstance(x, torch.Tensor) and (not x.is_cpu if on_cpu else x.get_device() != first.get_device()):
                raise _apart(name, first, rest)
        function = chosen.get(place)
        if function is None:
            with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]  # the self-test is for that GPU
                function = backends.choose(name, device)
        return function(first, *rest)

    return run


def _apart(name: str, first: torch.Tensor, rest: Sequence[Any]) -> ValueError:
    """For operands on different devices: the first of them that is not where the first one is."""
    names = [argument.name for argument in getattr(torch.ops.qbench, name).default._schema.arguments]
    where = {n: x.device for n, x in zip(names, (first, *rest), strict=True) if isinstance(x, torch.Tensor)}
    astray, there = next((n, d) for n, d in where.items() if d != first.device)
    return ValueError(f"{astray} is on {there} but {names[0]} on {first.device}")


ENTRIES = {(name, device): _entry(name, device) for name in SCHEMAS for device in backends.DEVICES}


def _define() -> Any:
    library: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
    for name, schema in SCHEMAS.items():
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        for device in backends.DEVICES:
            library.impl(name, ENTRIES[name, device], device.upper())
        torch.library.register_fake(f"{NAMESPACE}::{name}", getattr(fakes, name), lib=library)
    return library


LIBRARY = _define()
"""Kept alive: the operators exist as long as this object does."""

_are_transforms_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_num_dispatch_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)
_is_profiled: Callable[[], bool] = getattr(torch._C._autograd, "_profiler_enabled", lambda: True)
_PLAIN = {torch.Tensor, torch.nn.Parameter, torch.dtype, type(None), bool, int, float, str, list}
"""Types of arguments that a kernel takes as they are. A subclass of tensors may have no memory of its own."""


def is_watched() -> bool:
    """Whether something records, transforms or times the operators that are called. PyTorch has no public question for
    it; without the private ones the answer is yes."""
    return _num_dispatch_modes() > 0 or _is_profiled() or _are_transforms_active()


def _is_needed() -> bool:
    """Whether PyTorch's dispatcher has more to do than to find the kernel."""
    return torch.is_grad_enabled() or is_watched() or torch.compiler.is_dynamo_compiling()


def _operator(name: str) -> Callable[..., Any]:
    """The operator as the checked functions call it: through the dispatcher, or straight where that is not needed,
    which takes half the time."""
    overload = getattr(torch.ops.qbench, name).default
    on_cpu, on_cuda = (ENTRIES[name, device] for device in ("cpu", "cuda"))

    def call(first: torch.Tensor, *rest: Any) -> Any:
        if _is_needed() or not _PLAIN.issuperset(map(type, (first, *rest))):
            return overload(first, *rest)
        entry = on_cpu if first.is_cpu else on_cuda if first.is_cuda else overload
        return entry(first, *rest)

    return call


ops: Any = SimpleNamespace(**{name: _operator(name) for name in SCHEMAS})
"""Every operator by its name."""
