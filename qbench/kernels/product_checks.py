"""Checks of the integer products' arguments, and the length from which their sums need int64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import Pair, pair, per_channel, require_number, require_tensor
from qbench.kernels.reference.products import output_size

OPERANDS = (torch.uint8, torch.int8, torch.int16)
LARGEST = {torch.uint8: 255, torch.int8: 128, torch.int16: 32768}
LARGEST_CENTRED = {torch.uint8: 255, torch.int8: 255, torch.int16: 65535}
"""Of the magnitudes of codes relative to a zero point that is a code."""

LARGEST_INT32 = 2**31 - 1
MOST_PADDED = LARGEST_INT32
"""Elements of one padded image."""

Geometry = tuple[list[int], list[int], list[int], int]
"""Stride, padding, dilation, groups."""


def is_wide(terms: int, a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> bool:
    """Whether a sum of ``terms`` products can leave int32."""
    largest_a = (LARGEST if a_zero is None else LARGEST_CENTRED)[a.dtype]
    largest_b = (LARGEST if b_zero is None else LARGEST_CENTRED)[b.dtype]
    return terms * largest_a * largest_b > LARGEST_INT32


def geometry(stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Geometry:
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    return pair(stride, "stride", 1), pair(padding, "padding", 0), pair(dilation, "dilation", 1), groups


def _check_operand(x: Tensor, name: str, zero: Tensor | None, dims: int) -> None:
    require_tensor(x, name)
    if x.dtype not in OPERANDS:
        raise TypeError(f"{name} must be uint8, int8 or int16, got {x.dtype}")
    if x.dim() != dims:
        raise ValueError(f"{name} must have {dims} dimensions, got shape {tuple(x.shape)}")
    if zero is not None:
        require_number(zero, f"{name}_zero")


def check_convolution(
    x: Tensor,
    w: Tensor,
    x_zero: Tensor | None,
    w_zero: Tensor | None,
    geometry: Geometry,
) -> Geometry:
    """The geometry as the kernels take it; see :func:`_met`."""
    _check_operand(x, "x", x_zero, 4)
    _check_operand(w, "w", w_zero, 4)
    _check_shapes(x.shape, w.shape, geometry)
    return _met(x.shape, geometry)


def _met(input_shape: Sequence[int], geometry: Geometry) -> Geometry:
    """``geometry`` with strides no longer than the padded input, which give the one output that longer ones give."""
    stride, padding, dilation, groups = geometry
    shortened = [min(stride[i], input_shape[2 + i] + 2 * padding[i]) for i in (0, 1)]
    return shortened, padding, dilation, groups


def _check_shapes(input_shape: Sequence[int], weight_shape: Sequence[int], geometry: Geometry) -> tuple[int, int]:
    """Raise ValueError unless a convolution of these shapes exists; returns (H', W')."""
    stride, padding, dilation, groups = geometry
    channels, (filters, per_group, rows, columns) = input_shape[1], weight_shape
    if channels != per_group * groups or filters % groups:
        raise ValueError(
            f"weight {tuple(weight_shape)} in {groups} groups does not fit input {tuple(input_shape)}: "
            f"it reads {per_group * groups} channels, and its {filters} filters must divide by the groups"
        )
    size = output_size(input_shape, weight_shape, stride, padding, dilation)
    if rows < 1 or columns < 1 or size[0] < 1 or size[1] < 1:
        raise ValueError(
            f"no window of weight {tuple(weight_shape)} with dilation {tuple(dilation)} fits in input "
            f"{tuple(input_shape)} with padding {tuple(padding)}"
        )
    height, width = (length + 2 * border for length, border in zip(input_shape[2:], padding, strict=True))
    if channels * height * width > MOST_PADDED:
        raise ValueError(
            f"an image of input {tuple(input_shape)} with padding {tuple(padding)} has {channels * height * width} "
            f"elements; at most {MOST_PADDED} are allowed"
        )
    return size


def check_input_grad(
    e: Tensor,
    w: Tensor,
    input_shape: Sequence[int],
    e_zero: Tensor | None,
    w_zero: Tensor | None,
    geometry: Geometry,
) -> Geometry:
    """As :func:`check_convolution`."""
    _check_operand(e, "e", e_zero, 4)
    _check_operand(w, "w", w_zero, 4)
    _check_error(e, input_shape, w.shape, geometry)
    return _met(input_shape, geometry)


def check_weight_grad(
    x: Tensor,
    e: Tensor,
    weight_shape: Sequence[int],
    x_zero: Tensor | None,
    e_zero: Tensor | None,
    geometry: Geometry,
) -> Geometry:
    """As :func:`check_convolution`."""
    _check_operand(x, "x", x_zero, 4)
    _check_operand(e, "e", e_zero, 4)
    _check_error(e, x.shape, weight_shape, geometry)
    return _met(x.shape, geometry)


def _check_error(
    e: Tensor,
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    geometry: Geometry,
) -> None:
    """The error must have the shape of the convolution's output."""
    if len(input_shape) != 4 or len(weight_shape) != 4:
        raise ValueError(f"input and weight have 4 dimensions, got {tuple(input_shape)} and {tuple(weight_shape)}")
    expected = (input_shape[0], weight_shape[0], *_check_shapes(input_shape, weight_shape, geometry))
    if tuple(e.shape) != expected:
        raise ValueError(
            f"e has shape {tuple(e.shape)}, but input {tuple(input_shape)} and weight {tuple(weight_shape)} "
            f"give an output of {expected}"
        )


def check_matmul(a: Tensor, b: Tensor, a_zero: Tensor | None, b_zero: Tensor | None) -> None:
    _check_operand(a, "a", a_zero, 2)
    _check_operand(b, "b", b_zero, 2)
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"a {tuple(a.shape)} and b {tuple(b.shape)} do not fit: columns of a must be rows of b")


def per_channels(scale: Tensor, name: str, bias: Tensor | None, channels: int) -> tuple[Tensor, Tensor | None]:
    """The second factor's scale, 0-d or one per channel, and the bias, checked and contiguous."""
    if scale.dim():
        scale = per_channel(scale, name, channels)
    else:
        require_number(scale, name)
    return scale, None if bias is None else per_channel(bias, "bias", channels)
