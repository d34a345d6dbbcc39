"""Simulated arithmetic: products of quantised tensors as float products of their integer codes, scaled afterwards.

The sums are exact, so :mod:`qbench.nn.integer` gives the same numbers on the same codes: float32 where no partial sum
can reach 2^24, two digits in float32 or float64 (exact to 2^53) otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeGuard

import torch
from torch import Tensor

from qbench.kernels.checks import channels_last_strides
from qbench.kernels.constants import constant
from qbench.kernels.encoding import encode_affine, extremes
from qbench.kernels.reference.line_gradient import finish
from qbench.nn.error_line import ErrorLine
from qbench.nn.geometry import Geometry
from qbench.quant.formats import Affine
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import Range, largest_magnitude

EXACT_IN_FLOAT32 = 2.0**24


@dataclass(frozen=True)
class Operand:
    """A factor of a product: ``values`` are integers when ``scale`` is one, the tensor itself when it is None.

    largest: bound of the integers' magnitude.
    """

    values: Tensor
    scale: Tensor | None = None
    largest: float = math.inf

    @property
    def is_integer(self) -> bool:
        """Whether the values are integer codes."""
        return self.scale is not None


def operands(a: Tensor | QTensor, b: Tensor | QTensor, *, factor_out_channels: bool = True) -> tuple[Operand, Operand]:
    """The two factors of a product, as integers where both are. A per-channel scale of b (dimension 0) stays outside
    only where that dimension survives the product, which ``factor_out_channels`` says.

    Where one factor is no integer tensor there is no exact sum to keep, and both are values: a scale that stays outside
    would cost a pass over the result.
    """
    if _has_one_scale(a, per_channel=True) and _has_one_scale(b, per_channel=factor_out_channels):
        return _integers(a), _integers(b)
    return Operand(_values(a)), Operand(_values(b))


def _has_one_scale(x: Tensor | QTensor, *, per_channel: bool) -> TypeGuard[QTensor]:
    """Whether ``x`` is integers times a scale. per_channel: one scale per channel is fine too."""
    if not isinstance(x, QTensor) or not x.is_integral or x.scale is None:
        return False
    return per_channel or x.scale.dim() == 0


def _integers(x: QTensor) -> Operand:
    values, largest = x.integers(), x.format.largest_integer
    return Operand(values, x.scale, largest if math.isfinite(largest) else _magnitude(values))


def _values(x: Tensor | QTensor) -> Tensor:
    return x.dequantize() if isinstance(x, QTensor) else x


def _magnitude(values: Tensor) -> float:
    """max |values|; on CUDA reading it would stall the device, and nothing is decided by it there."""
    return math.inf if values.is_cuda else float(largest_magnitude(values))


Bound = Callable[[Tensor, float], float]
"""From values and the largest of them to the largest partial sum that a product with them can reach."""


def _exact(product: Callable[[Tensor], Tensor], a: Operand, bound: Bound) -> Tensor:
    """``product`` of a's values with those of the other factor, exact where both are integers, which one says of
    both."""
    if not a.is_integer:
        return product(a.values)
    with torch.autocast(a.values.device.type, enabled=False):  # whose bfloat16 holds few integers
        return _integer_product(product, a, bound)


def _integer_product(product: Callable[[Tensor], Tensor], a: Operand, bound: Bound) -> Tensor:
    """:func:`_exact` of integers.

    Where the sums may pass 2^24 in float32, a is split in two digits whose sums do not (two float32 products are
    several times faster than a float64 one on a CPU); the last resort, and the only way on CUDA, is float64.
    """
    values = a.values
    if values.is_cuda:
        return product(values.double()).round()  # of an algorithm that transforms the factors; any other is exact
    if bound(values, a.largest) < EXACT_IN_FLOAT32:
        return product(values)
    if math.isfinite(a.largest):
        base = 2.0 ** math.ceil(math.log2(a.largest + 1) / 2)
        high = (values / base).round()
        low = values - high * base
        sums = max(bound(high, math.ceil(a.largest / base)), bound(low, base / 2))
        if sums < EXACT_IN_FLOAT32:
            return product(high).double() * base + product(low)
    return product(values.double())


def _window_bound(weight: Tensor, filter_dims: tuple[int, ...]) -> Bound:
    """For sums over one kernel window: the largest value times the largest L1 norm of a filter."""

    @cache
    def largest_filter() -> float:
        return float(weight.abs().sum(filter_dims).max()) if weight.numel() else 0.0

    return lambda _, largest: largest * largest_filter()


def _reduction_bound(other: Operand, dims: tuple[int, ...]) -> Bound:
    """For sums over whole tensors (all dimensions but the channel's, 1): the count times the largest values, or, where
    that is too coarse, Cauchy-Schwarz: the product of the channels' largest norms."""

    @cache
    def norm_of_other() -> float:
        return _largest_norm(other.values, dims)

    def bound(values: Tensor, largest: float) -> float:
        count = values.numel() / max(values.shape[1], 1)
        simple = count * largest * other.largest
        if simple < EXACT_IN_FLOAT32 or not values.numel():
            return simple
        return _largest_norm(values, dims) * norm_of_other()

    return bound


def _largest_norm(values: Tensor, dims: tuple[int, ...]) -> float:
    """At least the largest norm of a channel (dimension 1). It is found in float32, five times faster than in float64,
    where each of n additions may lose 2^-24 of the sum: a large square swallows small ones."""
    count = values.numel() / values.shape[1]
    return float(torch.linalg.vector_norm(values, dim=dims).max()) * math.exp((count + 8) * 2.0**-25)


def _rescale(y: Tensor, *scales: Tensor | None) -> Tensor:
    """The product ``y`` times the outer scales, in float32, in a fixed order; dense in memory."""
    y = y.float()
    for scale in scales:
        if scale is not None:
            y = y * scale
    return _in_order(y)


def _in_order(y: Tensor) -> Tensor:
    """``y``, which nobody else holds, in the memory layout of the kernels' results: see
    :func:`~qbench.kernels.checks.dense`.

    A view with other strides would not do: what arises in the backward pass is added up in place only where it is none.
    """
    if y.dim() != 4:
        return y
    y = y.contiguous(memory_format=torch.channels_last)
    return y.as_strided_(y.shape, channels_last_strides(y)) if 1 in y.shape else y


def conv(x: Tensor | QTensor, weight: Tensor | QTensor, geometry: Geometry) -> Tensor:
    """x [N, C, H, W], weight [K, C / groups, R, S] -> [N, K, H', W'] float32."""
    a, w = operands(x, weight)

    def product(values: Tensor) -> Tensor:
        filters = w.values.to(values.dtype)
        return torch.nn.functional.conv2d(
            values, filters, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups
        )

    y = _exact(product, a, _window_bound(w.values, (1, 2, 3)))
    return _rescale(y, a.scale, _along_channels(w.scale))


def conv_with_extremes(x: QTensor, weight: QTensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """As :func:`conv`, with the smallest and largest result, float32 [2]."""
    y = conv(x, weight, geometry)
    return y, extremes(y)


def _along_channels(scale: Tensor | None) -> Tensor | None:
    """A weight's per-channel scale [K, 1, 1, 1] as it multiplies an output [N, K, H, W]."""
    return scale if scale is None or scale.dim() == 0 else scale.reshape(1, -1, 1, 1)


def conv_encoded(
    x: Tensor | QTensor, weight: Tensor | QTensor, geometry: Geometry, spec: Affine, limits: Range
) -> QTensor:
    """:func:`conv` as affine codes of a known range, rounded to nearest."""
    return encoded(conv(x, weight, geometry), spec, limits)


def encoded(y: Tensor, spec: Affine, limits: Range) -> QTensor:
    """``y`` as affine codes of the range, rounded to nearest."""
    return QTensor(*encode_affine(y, *limits, spec.bits, spec.scheme == "zero_point"), spec)


def conv_input_grad(
    error: Tensor | QTensor, weight: Tensor | QTensor, input_shape: torch.Size, geometry: Geometry
) -> Tensor:
    """error [N, K, H', W'], weight [K, C / groups, R, S] -> gradient of the input, float32 of ``input_shape``."""
    e, w = operands(error, weight, factor_out_channels=False)

    def product(values: Tensor) -> Tensor:
        filters = w.values.to(values.dtype)
        if values.dtype == torch.float32:
            return _transposed(values, filters, input_shape, geometry)
        return _backward(values, _shape_only(input_shape, values), filters, geometry, input_needed=True)

    # The sum runs over filters and taps.
    return _rescale(_exact(product, e, _window_bound(w.values, (0, 2, 3))), e.scale, w.scale)


def add_conv_input_grad_(total: Tensor, error: Tensor | QTensor, weight: Tensor | QTensor, geometry: Geometry) -> None:
    """total += :func:`conv_input_grad` of its shape."""
    total.add_(conv_input_grad(error, weight, total.shape, geometry))


def conv_weight_grad(
    x: Tensor | QTensor, error: Tensor | QTensor | ErrorLine, weight_shape: torch.Size, geometry: Geometry
) -> Tensor:
    """x [N, C, H, W], error [N, K, H', W'] -> gradient of the weight, float32 of ``weight_shape``."""
    if isinstance(error, ErrorLine):
        assert isinstance(x, QTensor) and x.scale is not None
        sums = _weight_grad_sums(_integers(x), _codes(error), weight_shape, geometry)
        where = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
        return finish(sums, error.codes.shape[2:], x.codes, x.zero_point, x.scale, *error.line, where)
    a, e = operands(x, error)
    return _rescale(_weight_grad_sums(a, e, weight_shape, geometry), a.scale, e.scale)


def _weight_grad_sums(a: Operand, e: Operand, weight_shape: torch.Size, geometry: Geometry) -> Tensor:
    def product(values: Tensor) -> Tensor:
        shape_only = _shape_only(weight_shape, values)
        return _backward(values, a.values.to(values.dtype), shape_only, geometry, input_needed=False)

    return _exact(product, e, _reduction_bound(a, (0, 2, 3)))


def _codes(error: ErrorLine) -> Operand:
    """The codes alone: what they stand for comes behind the sums."""
    return Operand(error.codes.float(), error.slope, 255)


def _shape_only(shape: torch.Size, like: Tensor) -> Tensor:
    """What stands for a tensor of which the shape alone is read: one element takes no memory, and one that every step
    shares no operator in a step that is replayed."""
    one = constant(0.0, like.device) if like.dtype == torch.float32 else like.new_empty(1)
    return one.expand(shape)


def _transposed(error: Tensor, weight: Tensor, input_shape: torch.Size, geometry: Geometry) -> Tensor:
    """The input gradient as a transposed convolution: the same sums as :func:`_backward`'s, which in float32 first
    writes a whole input that it does not read. In float64 it is the faster one."""
    left_over = [
        size - ((outputs - 1) * stride - 2 * padding + dilation * (taps - 1) + 1)
        for size, outputs, taps, stride, padding, dilation in zip(
            input_shape[2:], error.shape[2:], weight.shape[2:], geometry.stride, geometry.padding, geometry.dilation,
            strict=True,
        )
    ]  # fmt: skip
    return torch.nn.functional.conv_transpose2d(
        error, weight, None, geometry.stride, geometry.padding, left_over, geometry.groups, geometry.dilation
    )


def _backward(error: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, *, input_needed: bool) -> Tensor:
    grads = torch.ops.aten.convolution_backward(
        error, x, weight, None, geometry.stride, geometry.padding, geometry.dilation,
        False, [0, 0], geometry.groups, [input_needed, not input_needed, False],
    )  # fmt: skip
    grad: Tensor = grads[0] if input_needed else grads[1]
    return grad


def linear(x: Tensor | QTensor, weight: Tensor | QTensor) -> Tensor:
    """x [N, C], weight [K, C] -> [N, K] float32."""
    a, w = operands(x, weight)
    y = _exact(lambda values: values @ w.values.to(values.dtype).t(), a, _window_bound(w.values, (1,)))
    return _rescale(y, a.scale, w.scale if w.scale is None or w.scale.dim() == 0 else w.scale.reshape(1, -1))


def linear_input_grad(error: Tensor | QTensor, weight: Tensor | QTensor) -> Tensor:
    """error [N, K], weight [K, C] -> [N, C] float32."""
    e, w = operands(error, weight, factor_out_channels=False)
    grad = _exact(lambda values: values @ w.values.to(values.dtype), e, _window_bound(w.values, (0,)))
    return _rescale(grad, e.scale, w.scale)


def linear_weight_grad(x: Tensor | QTensor, error: Tensor | QTensor | ErrorLine) -> Tensor:
    """x [N, C], error [N, K] -> [K, C] float32."""
    if isinstance(error, ErrorLine):
        assert isinstance(x, QTensor) and x.scale is not None
        sums = _linear_weight_grad_sums(_integers(x), _codes(error))
        pixels, where = x.codes[..., None, None], ((1, 1), (0, 0), (1, 1), 1)
        grad = finish(sums[..., None, None], (1, 1), pixels, x.zero_point, x.scale, *error.line, where)
        return grad.view(sums.shape)
    a, e = operands(x, error)
    return _rescale(_linear_weight_grad_sums(a, e), a.scale, e.scale)


def _linear_weight_grad_sums(a: Operand, e: Operand) -> Tensor:
    return _exact(lambda values: values.t() @ a.values.to(values.dtype), e, _reduction_bound(a, (0,)))
