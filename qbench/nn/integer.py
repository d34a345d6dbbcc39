"""Integer arithmetic: products of quantised tensors by the integer kernels, scaled in the kernel's epilogue.

The same functions as :mod:`qbench.nn.simulated`, with the same results bit for bit. Where a factor is a float by the
recipe, or has no single scale and whole zero point, there is no integer product and the float one is taken;
:func:`why_float` says why, and the manifest shows it.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor

from qbench.kernels import line_gradient, products
from qbench.nn import simulated
from qbench.nn.error_line import ErrorLine
from qbench.nn.geometry import Geometry
from qbench.quant.formats import Affine, Float, Levels, Quantizer
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import Range

Value = Tensor | QTensor


def conv(x: Value, weight: Value, geometry: Geometry) -> Tensor:
    """x [N, C, H, W], weight [K, C / groups, R, S] -> [N, K, H', W'] float32."""
    if is_factor(x) and is_factor(weight, per_channel=True):
        return conv_with_extremes(x, weight, geometry)[0]
    return simulated.conv(x, weight, geometry)


def conv_with_extremes(x: QTensor, weight: QTensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """As :func:`conv`, with the smallest and largest result [2], which the kernel finds on the way."""
    if not (is_factor(x) and is_factor(weight, per_channel=True)):
        return simulated.conv_with_extremes(x, weight, geometry)
    return products.conv2d_s8_scaled(
        x.codes, weight.codes, _scale(x), _outer(weight),
        x_zero=x.zero_point, w_zero=weight.zero_point, **_keys(geometry),
    )  # fmt: skip


def conv_encoded(x: Value, weight: Value, geometry: Geometry, spec: Affine, limits: Range) -> QTensor:
    """:func:`conv` as affine codes of a known range, rounded to nearest, without the float tensor."""
    if is_factor(x) and is_factor(weight, per_channel=True):
        codes, scale, zero = products.conv2d_s8_encoded(
            x.codes, weight.codes, _scale(x), _outer(weight), *limits, spec.bits, spec.scheme == "zero_point",
            x_zero=x.zero_point, w_zero=weight.zero_point, **_keys(geometry),
        )  # fmt: skip
        return QTensor(codes, scale, zero, spec)
    return simulated.conv_encoded(x, weight, geometry, spec, limits)


def conv_input_grad(error: Value, weight: Value, input_shape: torch.Size, geometry: Geometry) -> Tensor:
    """error [N, K, H', W'], weight [K, C / groups, R, S] -> gradient of the input, float32 of ``input_shape``."""
    if is_factor(error) and is_factor(weight):
        return products.conv2d_s8_input_grad_scaled(
            error.codes, weight.codes, input_shape, _scale(error), _scale(weight),
            e_zero=error.zero_point, w_zero=weight.zero_point, **_keys(geometry),
        )  # fmt: skip
    return simulated.conv_input_grad(error, weight, input_shape, geometry)


def add_conv_input_grad_(total: Tensor, error: Value, weight: Value, geometry: Geometry) -> None:
    """total += :func:`conv_input_grad` of its shape, in the kernel."""
    if is_factor(error) and is_factor(weight):
        products.add_conv2d_s8_input_grad_(
            total, error.codes, weight.codes, _scale(error), _scale(weight),
            e_zero=error.zero_point, w_zero=weight.zero_point, **_keys(geometry),
        )  # fmt: skip
    else:
        simulated.add_conv_input_grad_(total, error, weight, geometry)


def conv_weight_grad(x: Value, error: Value | ErrorLine, weight_shape: torch.Size, geometry: Geometry) -> Tensor:
    """x [N, C, H, W], error [N, K, H', W'] -> gradient of the weight, float32 of ``weight_shape``."""
    if isinstance(error, ErrorLine):
        assert isinstance(x, QTensor)
        return line_gradient.conv2d_s8_weight_grad_line(
            x.codes, error.codes, weight_shape, _scale(x), *error.line, x_zero=x.zero_point, **_keys(geometry)
        )
    if is_factor(x) and is_factor(error):
        return products.conv2d_s8_weight_grad_scaled(
            x.codes, error.codes, weight_shape, _scale(x), _scale(error),
            x_zero=x.zero_point, e_zero=error.zero_point, **_keys(geometry),
        )  # fmt: skip
    return simulated.conv_weight_grad(x, error, weight_shape, geometry)


def linear(x: Value, weight: Value) -> Tensor:
    """x [N, C], weight [K, C] -> [N, K] float32."""
    if is_factor(x) and is_factor(weight, per_channel=True):
        return products.matmul_s8_scaled(
            x.codes, weight.codes.t(), _scale(x), _outer(weight), a_zero=x.zero_point, b_zero=weight.zero_point
        )
    return simulated.linear(x, weight)


def linear_input_grad(error: Value, weight: Value) -> Tensor:
    """error [N, K], weight [K, C] -> [N, C] float32."""
    if is_factor(error) and is_factor(weight):
        return products.matmul_s8_scaled(
            error.codes, weight.codes, _scale(error), _scale(weight), a_zero=error.zero_point, b_zero=weight.zero_point
        )
    return simulated.linear_input_grad(error, weight)


def linear_weight_grad(x: Value, error: Value | ErrorLine) -> Tensor:
    """x [N, C], error [N, K] -> [K, C] float32."""
    if isinstance(error, ErrorLine):
        assert isinstance(x, QTensor)
        return line_gradient.linear_s8_weight_grad_line(
            x.codes, error.codes, _scale(x), *error.line, x_zero=x.zero_point
        )
    if is_factor(x) and is_factor(error):
        # x's scale first, as in the simulation: the order of the two roundings is part of the result.
        return products.matmul_s8_scaled(
            x.codes.t(), error.codes, _scale(x), _scale(error), a_zero=x.zero_point, b_zero=error.zero_point
        ).t()
    return simulated.linear_weight_grad(x, error)


def is_factor(x: Value, *, per_channel: bool = False) -> TypeGuard[QTensor]:
    """Whether the integer kernels take ``x``. per_channel: one scale per output channel (dimension 0) is fine too."""
    if not isinstance(x, QTensor) or not x.multiplies or x.scale is None:
        return False
    is_single = x.scale.dim() == 0 and (x.zero_point is None or x.zero_point.dim() == 0)
    return is_single or (per_channel and x.zero_point is None)


def why_float(spec: Quantizer | None, *, per_channel: bool = False) -> str:
    """Why a path in the format ``spec`` has no integer product; empty where it has one."""
    if spec is None:
        return "by the recipe"
    return _why_not_integral(spec) or _why_not_one_scale(spec, per_channel)


def _why_not_integral(spec: Quantizer) -> str:
    if isinstance(spec, Float | Levels):
        return f"its {type(spec).__name__} values are not integers times a scale"
    if getattr(spec, "scheme", "zero_point") == "min_offset":
        return "real zero lies between two codes of the min-offset scheme"
    if spec.code_dtype not in ("uint8", "int8", "int16"):
        return f"{spec.code_dtype} codes are wider than the integer products take"
    return ""


def _why_not_one_scale(spec: Quantizer, per_channel: bool) -> str:
    if getattr(spec, "granularity", "tensor") == "tensor":
        return ""
    if isinstance(spec, Affine):
        return "each channel has a zero point of its own"
    return "" if per_channel else "the sum runs over channels of different scales"


def _scale(x: QTensor) -> Tensor:
    assert x.scale is not None
    return x.scale


def _outer(weight: QTensor) -> Tensor:
    """A weight's scale, 0-d or [K]."""
    scale = _scale(weight)
    return scale if scale.dim() == 0 else scale.reshape(-1)


def _keys(geometry: Geometry) -> dict[str, Any]:
    return {
        "stride": geometry.stride, "padding": geometry.padding,
        "dilation": geometry.dilation, "groups": geometry.groups,
    }  # fmt: skip
