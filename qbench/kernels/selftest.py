"""The comparison with the reference that every implementation of an integer product passes before its first use.

The inputs are those that break careless arithmetic: operands of one sign at the ends of their types (saturating
16-bit sums), sizes that no tile divides, one channel alone (whose tensors have strides that say nothing), sums beyond
int32 in the scaled forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qbench.kernels.reference import line_gradient, products
from qbench.kernels.witness import difference

PRODUCTS = (
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "matmul",
    "conv2d_scaled",
    "conv2d_encoded",
    "conv2d_input_grad_scaled",
    "add_conv2d_input_grad_",
    "conv2d_weight_grad_scaled",
    "conv2d_weight_grad_line",
    "matmul_scaled",
)
KINDS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
LINE = "conv2d_weight_grad_line"
LONG = 33_026
"""255 * 255 * LONG is the first multiple of 255^2 beyond 2^31."""

Shape = tuple[int, ...]


class Operands(NamedTuple):
    """How the two factors are filled: a value for all elements, or None for random ones."""

    first: torch.dtype
    first_value: int | None
    first_zero: float | None
    second: torch.dtype
    second_value: int | None
    second_zero: float | None

    def __str__(self) -> str:
        names = [str(dtype).removeprefix("torch.") for dtype in (self.first, self.second)]
        values = ["random" if value is None else str(value) for value in (self.first_value, self.second_value)]
        return f"{names[0]} {values[0]} times {names[1]} {values[1]}"


U8, S8, S16 = torch.uint8, torch.int8, torch.int16
CASES = (
    Operands(U8, 255, None, S8, 127, None),
    Operands(U8, 255, None, S8, -128, None),
    Operands(U8, 255, None, U8, 255, 0.0),
    Operands(S8, -128, None, S8, -128, None),
    Operands(S8, 127, None, S8, -127, None),
    Operands(U8, 0, 255.0, U8, 0, 255.0),
    Operands(U8, None, 128.0, S8, None, None),
    Operands(U8, None, 7.0, U8, None, None),
    Operands(S8, None, None, U8, None, 1.0),
    Operands(S16, -32768, None, U8, 255, 0.0),
    Operands(S16, None, None, S16, None, None),
)


def first_difference(op: str, function: Callable[..., Any], device: str) -> str:
    """Where ``function`` first differs from the reference of the product ``op``; empty where nowhere."""
    reference = getattr(line_gradient if op == LINE else products, op)
    for label, arguments in _calls(op, device):
        expected = outcome(reference, arguments)
        try:
            got = outcome(function, arguments)
        except Exception as error:  # whatever it is, the next implementation does without
            return f"{label}: {type(error).__name__}: {error}"
        text = difference(expected, got)
        if text:
            return f"{label}: {text}"
    return ""


def outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Tensor, ...]:
    """What a call returns, or makes of (a copy of) its first argument."""
    first, *rest = arguments
    changed = first.clone()
    returned = function(changed, *rest)
    if isinstance(returned, Tensor):
        return (returned,)
    return (changed,) if returned is None else returned


def _calls(op: str, device: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Arguments of the operator for every case, and what to call them."""
    generator = torch.Generator().manual_seed(0)
    build = _matmul if op.startswith("matmul") else _conv
    for case in CASES:
        if op == LINE and not case.first == case.second == U8:
            continue
        yield str(case), build(op, case, "odd", generator, device)
        yield f"{case}, one channel", build(op, case, "narrow", generator, device)
        if S16 not in (case.first, case.second):
            yield f"{case}, whole tiles", build(op, case, "tiled", generator, device)
        if op.endswith(("_scaled", "_encoded", "_line", "_")) and case.first == U8:
            yield f"{case}, long sums", build(op, case, "long", generator, device)


def _filled(shape: Shape, dtype: torch.dtype, value: int | None, generator: torch.Generator, device: str) -> Tensor:
    limits = torch.iinfo(dtype)
    if value is None:
        full = torch.randint(limits.min, limits.max + 1, shape, generator=generator).to(dtype)
    else:
        full = torch.full(shape, value, dtype=dtype)
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return full.to(device).contiguous(memory_format=layout)


def _number(value: float, device: str) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device=device)


def _zero(value: float | None, device: str) -> Tensor | None:
    return None if value is None else _number(value, device)


def _ramp(low: float, high: float, count: int, device: torch.device | str) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float32).to(device)


def _factors(
    case: Operands, first: Shape, second: Shape, generator: torch.Generator, device: str
) -> tuple[list[Any], list[Any]]:
    """Each factor with its zero point."""
    return (
        [_filled(first, case.first, case.first_value, generator, device), _zero(case.first_zero, device)],
        [_filled(second, case.second, case.second_value, generator, device), _zero(case.second_zero, device)],
    )


def _scales(device: str) -> tuple[Tensor, Tensor]:
    return _number(0.037, device), _number(1.7, device)


def _is_wide(case: Operands) -> bool:
    return S16 in (case.first, case.second)


def _matmul(op: str, case: Operands, size: str, generator: torch.Generator, device: str) -> tuple[Any, ...]:
    m, k, n = {"odd": (3, 67, 5), "narrow": (1, 20, 1), "tiled": (32, 128, 32), "long": (3, LONG, 5)}[size]
    first, second = _factors(case, (m, k), (k, n), generator, device)
    if size == "narrow":
        first[0] = first[0].as_strided((m, k), (1, 1))
    if op == "matmul":
        return (*first, *second, _is_wide(case))
    a_scale, b_scale = _scales(device)
    bias = _ramp(-1, 1, n, device)
    return (*first, a_scale, *second, b_scale.expand(n).contiguous(), bias)


def _conv(op: str, case: Operands, size: str, generator: torch.Generator, device: str) -> tuple[Any, ...]:
    x_shape, w_shape, e_shape, geometry = _shapes(op, size)
    kind = next(kind for kind in reversed(KINDS) if kind in op)
    shapes = {
        "conv2d": (x_shape, w_shape),
        "conv2d_input_grad": (e_shape, w_shape),
        "conv2d_weight_grad": (x_shape, e_shape),
    }[kind]
    result = {"conv2d": (), "conv2d_input_grad": (list(x_shape),), "conv2d_weight_grad": (list(w_shape),)}[kind]
    first, second = _factors(case, *shapes, generator, device)
    if op == kind:
        return (*first, *second, *result, *geometry, _is_wide(case))
    scale, other = _scales(device)
    if op == LINE:
        return (*first, scale, second[0], *_line(second[0]), *result, *geometry)
    if op.startswith("add_"):
        total = _ramp(-9, 9, math.prod(x_shape), device).view(x_shape)
        total = total.contiguous(memory_format=torch.channels_last)
        return (total, *first, scale, *second, other, *geometry)
    bias = (_ramp(-1, 1, w_shape[0], device),) if kind == "conv2d" else ()
    ends = [_number(end, device) for end in (-300.0, 500.0)]
    encoding = (*ends, 8, True) if op.endswith("_encoded") else ()
    return (*first, scale, *second, other, *bias, *result, *geometry, *encoding)


def _line(e: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slopes, means and pulls of a line of the codes, and per filter its first element as maximum, the last as
    minimum."""
    filters, device = e.shape[1], e.device
    each, last = torch.arange(filters, device=device), e.numel() - filters
    slope, pull = (_ramp(*ends, filters, device) for ends in ((-1, 2), (-400, 300)))
    mean = torch.linspace(90, 170, filters, dtype=torch.float64, device=device)
    return slope, mean, pull, torch.cat([each, last + each])


def _shapes(op: str, size: str) -> tuple[Shape, Shape, Shape, tuple[list[int], list[int], list[int], int]]:
    """Input, weight, error and geometry of a convolution: with a stride and odd sizes, of one channel, of whole tiles,
    or with a reduction of LONG terms."""
    if size == "odd":
        return (2, 5, 7, 6), (9, 5, 3, 3), (2, 9, 4, 6), ([2, 1], [1, 1], [1, 1], 1)
    if size == "narrow":
        return (2, 1, 5, 4), (1, 1, 3, 3), (2, 1, 5, 4), ([1, 1], [1, 1], [1, 1], 1)
    if size == "tiled":
        return (1, 16, 8, 8), (32, 16, 3, 3), (1, 32, 8, 8), ([1, 1], [1, 1], [1, 1], 1)
    plain = ([1, 1], [0, 0], [1, 1], 1)
    if "weight_grad" in op:
        return (1, 2, 2, LONG // 2), (3, 2, 1, 1), (1, 3, 2, LONG // 2), plain
    if "input_grad" in op:
        return (1, 2, 2, 1), (LONG, 2, 1, 1), (1, LONG, 2, 1), plain
    return (1, LONG, 2, 1), (3, LONG, 1, 1), (1, 3, 2, 1), plain
