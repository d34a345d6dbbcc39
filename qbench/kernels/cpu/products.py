"""Exact integer products in C++: the functions of :mod:`qbench.kernels.reference.products`, with the same results.

Four-dimensional operands are read, and results written, with channels last; the factors of a matrix product may have
any strides. A zero point outside its type's range raises ValueError.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qbench.kernels import cpu
from qbench.kernels.cpu.calls import NativeCall, call, floats, note, number
from qbench.kernels.reference.products import Geometry, output_size, sum_type

CODES = {torch.uint8: 0, torch.int8: 1, torch.int16: 2}
RESULTS = {torch.int32: 0, torch.int64: 1, torch.float32: 2, torch.uint8: 3}
RESULT_LINE = 4
CALL = struct.Struct("=40q")
"""struct Call of products.h: two factors of 9 numbers, the result's 6, the geometry's 16."""
LINE = struct.Struct("=5q")
"""struct CallLine of products.h."""

ADDRESSES = (0, 1, 2, 9, 10, 11, 18, 21, 22, 23), (0, 1, 2, 3)
"""Which numbers of a struct Call and of a struct CallLine are addresses."""

DONE, ZERO_POINT, LEVEL, MEMORY = range(4)


class Factor(NamedTuple):
    """An operand as C++ reads it. strides: of image (or filter), row, column and channel, in elements."""

    codes: Tensor
    zero: Tensor | None
    scale: Tensor | None
    strides: Sequence[int]

    def words(self) -> tuple[int, ...]:
        """struct CallFactor. The tensors must outlive the call."""
        scale = (0, 0) if self.scale is None else (self.scale.data_ptr(), self.scale.numel())
        return (self.codes.data_ptr(), _address(self.zero), *scale, CODES[self.codes.dtype], *self.strides)


def conv2d(
    x: Tensor,
    x_zero: Tensor | None,
    w: Tensor,
    w_zero: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """x [N, C, H, W], w [K, C / groups, R, S] -> [N, K, H', W'] int32, int64 if ``wide``."""
    where = (stride, padding, dilation, groups)
    return _forward(image(x, x_zero), image(w, w_zero), where, sum_type(wide), None, None)


def conv2d_input_grad(
    e: Tensor,
    e_zero: Tensor | None,
    w: Tensor,
    w_zero: Tensor | None,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """e [N, K, H', W'], w [K, C / groups, R, S] -> ``input_shape``: each output spread back over its window."""
    where = (stride, padding, dilation, groups)
    return _input_grad(image(e, e_zero), image(w, w_zero), input_shape, where, sum_type(wide))


def conv2d_weight_grad(
    x: Tensor,
    x_zero: Tensor | None,
    e: Tensor,
    e_zero: Tensor | None,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """x [N, C, H, W], e [N, K, H', W'] -> ``weight_shape`` [K, C / groups, R, S]: each tap's sum over all outputs."""
    where = (stride, padding, dilation, groups)
    return _weight_grad(image(x, x_zero), image(e, e_zero), weight_shape, where, sum_type(wide))


def matmul(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None, wide: bool) -> Tensor:
    """a [M, K], b [K, N] -> [M, N] int32, int64 if ``wide``."""
    return _matmul(_rows(a, a_zero), _columns(b, b_zero), sum_type(wide), None)


def conv2d_scaled(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor]:
    """float(sum) * x_scale * w_scale + bias: float32, each operation rounded, and its [min, max]."""
    where = (stride, padding, dilation, groups)
    extremes = floats(2)
    y = _forward(image(x, x_zero, x_scale), image(w, w_zero, w_scale), where, torch.float32, bias, extremes)
    return y, extremes


def conv2d_encoded(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result of ``conv2d_scaled`` as affine codes of [low, high], uint8; scale; zero."""
    scale, zero = number(), number()
    encoding = torch.full((3,), 2.0**bits - 1, dtype=torch.float32)  # scale, zero (results share no memory), largest
    ends, at = (low.data_ptr(), high.data_ptr()), encoding.data_ptr()
    for places in ((scale.data_ptr(), zero.data_ptr()), (at, at + encoding.element_size())):
        call("affine_parameters", *ends, bits, integer_zero_point, *places)
    where = (stride, padding, dilation, groups)
    factors = image(x, x_zero, x_scale), image(w, w_zero, w_scale)
    return _forward(*factors, where, torch.uint8, bias, encoding=encoding), scale, zero


def conv2d_input_grad_scaled(
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """float(sum) * e_scale * w_scale: float32 of ``input_shape``."""
    where = (stride, padding, dilation, groups)
    return _input_grad(image(e, e_zero, e_scale), image(w, w_zero, w_scale), input_shape, where, torch.float32)


def add_conv2d_input_grad_(
    total: Tensor,
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> None:
    """total += the result of ``conv2d_input_grad_scaled``, float32, in the same pass."""
    where = (stride, padding, dilation, groups)
    _write_input_grad(total, image(e, e_zero, e_scale), image(w, w_zero, w_scale), where, adds=True)


def conv2d_weight_grad_scaled(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """float(sum) * x_scale * e_scale: float32 of ``weight_shape``."""
    where = (stride, padding, dilation, groups)
    return _weight_grad(image(x, x_zero, x_scale), image(e, e_zero, e_scale), weight_shape, where, torch.float32)


def matmul_scaled(
    a: Tensor,
    a_zero: Tensor | None,
    a_scale: Tensor,
    b: Tensor,
    b_zero: Tensor | None,
    b_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """float(sum) * a_scale * b_scale + bias: float32 [M, N]."""
    return _matmul(_rows(a, a_zero, a_scale), _columns(b, b_zero, b_scale), torch.float32, bias)


def _forward(
    x: Factor,
    w: Factor,
    where: Geometry,
    dtype: torch.dtype,
    bias: Tensor | None,
    extremes: Tensor | None = None,
    encoding: Tensor | None = None,
) -> Tensor:
    stride, padding, dilation, groups = where
    filters, _, *taps = w.codes.shape
    size = output_size(x.codes.shape, w.codes.shape, stride, padding, dilation)
    y = empty((x.codes.shape[0], filters, *size), dtype)
    if not y.numel():
        if extremes is not None:
            extremes.zero_()
        return y
    shape = (*x.codes.shape, filters, *taps, *size)
    multiply("conv2d", x, w, y, (*shape, *stride, *padding, *dilation, groups), bias, extremes, encoding)
    return y


def _input_grad(e: Factor, w: Factor, input_shape: Sequence[int], where: Geometry, dtype: torch.dtype) -> Tensor:
    grad = empty(input_shape, dtype)
    _write_input_grad(grad, e, w, where)
    return grad


def _write_input_grad(grad: Tensor, e: Factor, w: Factor, where: Geometry, *, adds: bool = False) -> None:
    stride, padding, dilation, groups = where
    if grad.numel():
        shape = (*grad.shape, e.codes.shape[1], *w.codes.shape[2:], *e.codes.shape[2:])
        multiply("conv2d_input_grad", e, w, grad, (*shape, *stride, *padding, *dilation, groups), adds=adds)


def _weight_grad(x: Factor, e: Factor, weight_shape: Sequence[int], where: Geometry, dtype: torch.dtype) -> Tensor:
    grad = empty(weight_shape, dtype)
    if grad.numel():
        multiply("conv2d_weight_grad", x, e, grad, weight_grad_geometry(x, e, weight_shape, where))
    return grad


def weight_grad_geometry(x: Factor, e: Factor, weight_shape: Sequence[int], where: Geometry) -> tuple[int, ...]:
    """struct Geometry of a weight gradient."""
    stride, padding, dilation, groups = where
    shape = (*x.codes.shape, weight_shape[0], *weight_shape[2:], *e.codes.shape[2:])
    return (*shape, *stride, *padding, *dilation, groups)


def _matmul(a: Factor, b: Factor, dtype: torch.dtype, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution of one image, one pixel high and M wide."""
    (m, terms), n = a.codes.shape, b.codes.shape[1]
    y = torch.empty((m, n), dtype=dtype)
    if y.numel():
        multiply("conv2d", a, b, y, (1, terms, 1, m, n, 1, 1, 1, m, 1, 1, 0, 0, 1, 1, 1), bias)
    return y


def image(codes: Tensor, zero: Tensor | None, scale: Tensor | None = None) -> Factor:
    """An operand [N, C, H, W]."""
    image, channel, row, column = codes.stride()
    return Factor(codes, zero, scale, (image, row, column, channel))


def _rows(a: Tensor, zero: Tensor | None, scale: Tensor | None = None) -> Factor:
    return Factor(a, zero, scale, (0, 0, a.stride(0), a.stride(1)))


def _columns(b: Tensor, zero: Tensor | None, scale: Tensor | None = None) -> Factor:
    return Factor(b, zero, scale, (b.stride(1), 0, 0, b.stride(0)))


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Uninitialised, channels last."""
    return torch.empty(tuple(shape), dtype=dtype, memory_format=torch.channels_last)


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


@cache
def _functions(library: ctypes.CDLL) -> dict[str, Callable[..., int]]:
    names = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "conv2d_weight_grad_line")
    functions: dict[str, Any] = {name: getattr(library, f"qbench_{name}") for name in names}
    for name, function in functions.items():
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, *[ctypes.c_void_p] * name.endswith("_line")]
        function.restype = ctypes.c_int
    return functions


def multiply(
    name: str,
    first: Factor,
    second: Factor,
    result: Tensor,
    geometry: Sequence[int],
    bias: Tensor | None = None,
    extremes: Tensor | None = None,
    encoding: Tensor | None = None,
    *,
    adds: bool = False,
    line: Sequence[int] | None = None,
) -> None:
    """Call the library's function; ``result`` is written. line: struct CallLine, where the result is of one.

    Raises ValueError for a zero point outside its type, MemoryError and RuntimeError where the library cannot run.
    """
    kind = RESULTS[result.dtype] if line is None else RESULT_LINE
    target = (result.data_ptr(), kind, adds, *map(_address, (bias, extremes, encoding)))
    packed = [CALL.pack(*first.words(), *second.words(), *target, *geometry)]
    if line is not None:
        packed.append(LINE.pack(*line))
    function, how = _functions(cpu.library())[name], (cpu.level(), torch.get_num_threads())
    _require_done(name, function(*how, *packed))
    note(lambda: _described(name, function, how, packed))


def _described(name: str, function: Callable[..., int], how: Sequence[int], packed: Sequence[bytes]) -> NativeCall:
    arrays = [(ctypes.c_int64 * (len(words) // 8)).from_buffer_copy(words) for words in packed]
    pointers = [(array, i) for array, places in zip(arrays, ADDRESSES, strict=False) for i in places]
    return NativeCall(function, [*how, *arrays], pointers, [], partial(_require_done, name))


def _require_done(name: str, status: int) -> None:
    if status == DONE:
        return
    if status == ZERO_POINT:
        raise ValueError(f"{name}: a zero point must be an integer within the range of its operand's type")
    if status == MEMORY:
        raise MemoryError(f"{name}: no memory for the packed operands")
    raise RuntimeError(f"{name}: this machine cannot run the level {cpu.isa()}")
