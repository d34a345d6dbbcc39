"""Simulated arithmetic: products of quantised tensors as float products of their integer codes, scaled afterwards.

The sums are exact, so integer kernels on the same codes give the same numbers: float32 where no partial sum can
reach 2^24, float64 otherwise (exact to 2^53).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qbench.quant.qtensor import QTensor

EXACT_IN_FLOAT32 = 2.0**24


@dataclass(frozen=True)
class Geometry:
    """Where a convolution's kernel goes. Everything in (height, width) order."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Operand:
    """A factor of a product: ``values`` are integers when ``scale`` is one, the tensor itself when it is None."""

    values: Tensor
    scale: Tensor | None = None

    @property
    def is_integer(self) -> bool:
        """Whether the values are integer codes."""
        return self.scale is not None


def operand(x: Tensor | QTensor, *, factor_out_channels: bool = True) -> Operand:
    """``x`` as a factor. A per-channel scale (dimension 0) stays outside only where that dimension survives the
    product; elsewhere the values are dequantised first."""
    if isinstance(x, Tensor):
        return Operand(x)
    integral = x.scale is not None and x.table is None and not _is_fractional(x)
    if not integral or (x.scale is not None and x.scale.dim() > 0 and not factor_out_channels):
        return Operand(x.dequantize())
    return Operand(x.integers(), x.scale)


def _is_fractional(x: QTensor) -> bool:
    """The min-offset scheme has a zero point between codes, so its values are no integers."""
    return getattr(x.format, "scheme", "zero_point") == "min_offset"


def _working_dtype(a: Operand, b: Operand, a_contracted: tuple[int, ...], b_contracted: tuple[int, ...]) -> torch.dtype:
    """float32 where every partial sum of products is provably below 2^24, else float64.

    The bound is Cauchy-Schwarz: any partial sum is at most the product of the two largest norms over the contracted
    dimensions; a window of a convolution sees part of what the norm counts. Not used on CUDA, where reading the
    bound would stall the device and float64 is fast enough.
    """
    if not (a.is_integer and b.is_integer):
        return a.values.dtype
    if a.values.is_cuda:
        return torch.float64
    bound = _norm(a.values, a_contracted) * _norm(b.values, b_contracted)
    return torch.float32 if bound < EXACT_IN_FLOAT32 else torch.float64


def _norm(values: Tensor, contracted: tuple[int, ...]) -> float:
    if values.numel() == 0:
        return 0.0
    # Summed in float64: squares of codes over a batch pass 2^24 themselves.
    return float(torch.linalg.vector_norm(values, dim=contracted, dtype=torch.float64).max())


def _rescale(y: Tensor, *scales: Tensor | None) -> Tensor:
    """Apply the outer scales, in float32, in a fixed order."""
    y = y.float()
    for scale in scales:
        if scale is not None:
            y = y * scale
    return y


def conv(x: Tensor | QTensor, weight: Tensor | QTensor, geometry: Geometry) -> Tensor:
    """x [N, C, H, W], weight [K, C / groups, R, S] -> [N, K, H', W'] float32."""
    a, w = operand(x), operand(weight)
    window = _window(a.values, w.values)
    dtype = window if a.is_integer and w.is_integer else a.values.dtype
    y = torch.nn.functional.conv2d(
        a.values.to(dtype), w.values.to(dtype), None,
        geometry.stride, geometry.padding, geometry.dilation, geometry.groups,
    )  # fmt: skip
    return _rescale(y, a.scale, _along_channels(w.scale))


def _window(x: Tensor, weight: Tensor) -> torch.dtype:
    """The dtype for a sum over one kernel window: max|x| * the largest L1 norm of a filter bounds it."""
    if x.is_cuda:
        return torch.float64
    if x.numel() == 0 or weight.numel() == 0:
        return torch.float32
    low, high = torch.aminmax(x)
    filters = float(weight.abs().flatten(1).sum(1).max())
    return torch.float32 if float(torch.maximum(-low, high)) * filters < EXACT_IN_FLOAT32 else torch.float64


def _along_channels(scale: Tensor | None) -> Tensor | None:
    """A weight's per-channel scale [K, 1, 1, 1] as it multiplies an output [N, K, H, W]."""
    return scale if scale is None or scale.dim() == 0 else scale.reshape(1, -1, 1, 1)


def conv_input_grad(
    error: Tensor | QTensor, weight: Tensor | QTensor, input_shape: torch.Size, geometry: Geometry
) -> Tensor:
    """error [N, K, H', W'], weight [K, C / groups, R, S] -> gradient of the input, float32 of ``input_shape``."""
    e, w = operand(error), operand(weight, factor_out_channels=False)
    transposed = w.values.transpose(0, 1)  # the sum runs over filters and taps
    dtype = _window(e.values, transposed) if e.is_integer and w.is_integer else torch.float32
    # Only the shape of the input is read; expanding one element allocates nothing.
    shape_only = e.values.new_empty(1, dtype=dtype).expand(input_shape)
    grad = _backward(e.values.to(dtype), shape_only, w.values.to(dtype), geometry, input_needed=True)
    return _rescale(grad, e.scale, w.scale)


def conv_weight_grad(
    x: Tensor | QTensor, error: Tensor | QTensor, weight_shape: torch.Size, geometry: Geometry
) -> Tensor:
    """x [N, C, H, W], error [N, K, H', W'] -> gradient of the weight, float32 of ``weight_shape``."""
    a, e = operand(x), operand(error)
    dtype = _working_dtype(a, e, (0, 2, 3), (0, 2, 3))
    shape_only = a.values.new_empty(1, dtype=dtype).expand(weight_shape)
    grad = _backward(e.values.to(dtype), a.values.to(dtype), shape_only, geometry, input_needed=False)
    return _rescale(grad, a.scale, e.scale)


def _backward(error: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, *, input_needed: bool) -> Tensor:
    grads = torch.ops.aten.convolution_backward(
        error, x, weight, None, geometry.stride, geometry.padding, geometry.dilation,
        False, [0, 0], geometry.groups, [input_needed, not input_needed, False],
    )  # fmt: skip
    grad: Tensor = grads[0] if input_needed else grads[1]
    return grad


def matmul(a: Operand, b: Operand) -> Tensor:
    """a [M, K] x b [K, N] -> [M, N] float32, scales applied."""
    dtype = _working_dtype(a, b, (1,), (0,))
    return _rescale(a.values.to(dtype) @ b.values.to(dtype), a.scale, b.scale)


def linear(x: Tensor | QTensor, weight: Tensor | QTensor) -> Tensor:
    """x [N, C], weight [K, C] -> [N, K] float32."""
    w = operand(weight)
    scale = w.scale if w.scale is None or w.scale.dim() == 0 else w.scale.reshape(1, -1)
    return matmul(operand(x), Operand(w.values.t(), scale))


def linear_input_grad(error: Tensor | QTensor, weight: Tensor | QTensor) -> Tensor:
    """error [N, K], weight [K, C] -> [N, C] float32."""
    return matmul(operand(error), operand(weight, factor_out_channels=False))


def linear_weight_grad(x: Tensor | QTensor, error: Tensor | QTensor) -> Tensor:
    """x [N, C], error [N, K] -> [K, C] float32."""
    e, a = operand(error), operand(x)
    return matmul(Operand(e.values.t(), e.scale), a)
