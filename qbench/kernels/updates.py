"""Updates of weights that live on an integer grid, in place: no float copy of the weights exists.

Weights, gradient and state of one call have one shape and one memory layout, dense (row-major, or channels-last with
four dimensions). Random bits are counted in the order of that memory. Arithmetic is float32, one rounding per
operation, in the order in which the formulas are written; settings are rounded to float32 first.

Back on the grid: ``nearest``, ``half_up`` or ``stochastic`` give clip(round(w / scale), low, high), with the limits of
the codes' type; ``binary`` gives the sign of w (+1 for 0) and ``binary_stochastic`` +1 with probability
clip((w / scale + 1) / 2, 0, 1), else -1. A weight that became NaN gets code 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from qbench.kernels.checks import Draws, dense, require_like, require_number, require_rounding, require_type, words
from qbench.kernels.library import ops

ROUNDINGS = ("nearest", "half_up", "binary", "stochastic", "binary_stochastic")


def sgd_on_grid_(
    codes: Tensor,
    grad: Tensor,
    momentum: Tensor | None,
    lr: float,
    weight_decay: float,
    mu: float,
    nesterov: bool,
    first: bool,
    scale: float,
    low: float,
    high: float,
    rounding: str,
    key: Draws = None,
) -> None:
    """SGD on weights w = code * scale (PyTorch's formula):

    d = grad + weight_decay * w; buffer = d on the ``first`` step, else mu * buffer + d; d = d + mu * buffer with
    Nesterov's rule, else buffer; w - lr * d goes back on the grid. Without ``momentum`` d is taken as it is.

    codes: int8 or int16; grad, momentum (the buffer): float32. Both codes and momentum are changed.
    """
    _check_codes(codes, scale, rounding, key)
    _check_state(grad, "grad", codes, "codes")
    if momentum is not None:
        _check_state(momentum, "momentum", codes, "codes")
    ops.sgd_on_grid_(
        codes, _aligned(grad, codes), momentum, lr, weight_decay, mu, nesterov, first, scale, low, high, rounding,
        words(key),
    )  # fmt: skip
    increment_version([codes] if momentum is None else [codes, momentum])


def adam_on_grid_(
    codes: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
    weight_decay: float,
    scale: float,
    low: float,
    high: float,
    rounding: str,
    key: Draws = None,
) -> None:
    """Adam (Kingma and Ba 2015, PyTorch's form) on weights w = code * scale:

    g = grad + weight_decay * w; m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * (g * g);
    w - size * (m / (sqrt(v) / correction + eps)) goes back on the grid, with size = lr / (1 - beta1^step) and
    correction = sqrt(1 - beta2^step), computed in float64.

    codes: int8 or int16; grad, m, v: float32. codes, m and v are changed. step: counted from 1.
    """
    _check_codes(codes, scale, rounding, key)
    for state, name in ((grad, "grad"), (m, "m"), (v, "v")):
        _check_state(state, name, codes, "codes")
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    ops.adam_on_grid_(
        codes, _aligned(grad, codes), m, v, lr, beta1, beta2, eps, step, weight_decay, scale, low, high, rounding,
        words(key),
    )  # fmt: skip
    increment_version([codes, m, v])


def quantized_momentum_(
    weight: Tensor,
    accumulator: Tensor,
    scale: Tensor,
    grad: Tensor,
    weight_decay: float,
    levels: int,
    momentum_quarters: int,
    lr_code: int,
    limit: int,
    key: Draws = None,
) -> None:
    """WAGEUBN's update (Yang et al. 2020) in integers, which never rounds but the gradient and the old accumulator:

    d = grad + weight_decay * (weight * scale);
    g = clip(round(d / (P / levels)), +-(levels - 1)), P = 2^round(log2 max |d|);
    accumulator = momentum_quarters * round(accumulator / 4) + g (half to even);
    weight = clip(weight - lr_code * accumulator, +-limit).

    weight: int32 in units of 2^-23; scale: that unit, 0-d float32; accumulator: int32 in units of 2^-14; grad: float32.
    lr_code: in units of 2^-9; limit: in units of 2^-23. weight and accumulator change; the scale becomes NaN, for good,
    where d is not finite, because integers cannot say so.
    """
    require_type(weight, "weight", torch.int32)
    require_type(accumulator, "accumulator", torch.int32)
    require_number(scale, "scale")
    _check_dense(weight, "weight")
    _check_layout(accumulator, "accumulator", weight, "weight")
    _check_state(grad, "grad", weight, "weight")
    if not 1 <= levels <= 2**24 or not 0 <= limit < 2**31:
        raise ValueError(f"levels must be from 1 to 2^24 and limit from 0 below 2^31, got {levels} and {limit}")
    ops.quantized_momentum_(
        weight,
        accumulator,
        scale,
        _aligned(grad, weight),
        weight_decay,
        levels,
        momentum_quarters,
        lr_code,
        limit,
        words(key),
    )
    increment_version([weight, accumulator, scale])


def shift_step_(codes: Tensor, scale: Tensor, grad: Tensor, eta: float, limit: int, key: Draws = None) -> None:
    """WAGE's update (Wu et al. 2018, section 3.3.4), which discards the gradient's own magnitude:

    code = clip(code - round(grad / (P / eta)), +-limit), P = 2^round(log2 max |grad|).

    codes: int8 or int16; grad: float32; eta: positive; limit: within what the codes' type holds. The codes change; the
    scale (0-d float32), which nothing is multiplied by here, becomes NaN, for good, where the gradient is not finite,
    because codes cannot say so.
    """
    require_type(codes, "codes", torch.int8, torch.int16)
    require_number(scale, "scale")
    _check_dense(codes, "codes")
    _check_state(grad, "grad", codes, "codes")
    if not 0 < eta < math.inf:
        raise ValueError(f"eta must be positive and finite, got {eta}")
    if not 0 <= limit <= torch.iinfo(codes.dtype).max:
        raise ValueError(f"limit must be from 0 to {torch.iinfo(codes.dtype).max} for {codes.dtype}, got {limit}")
    ops.shift_step_(codes, scale, _aligned(grad, codes), eta, limit, words(key))
    increment_version([codes, scale])


def poison_(scale: Tensor, x: Tensor) -> None:
    """The scale (0-d float32) becomes NaN, for good, where a value of x (float32) is not finite."""
    require_number(scale, "scale")
    require_type(x, "x", torch.float32)
    ops.poison_(scale, dense(x))
    increment_version([scale])


def _check_codes(codes: Tensor, scale: float, rounding: str, key: Draws) -> None:
    require_type(codes, "codes", torch.int8, torch.int16)
    _check_dense(codes, "codes")
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"the scale of a grid must be positive and finite, got {scale}")
    require_rounding(rounding, key, ROUNDINGS)


def _check_dense(x: Tensor, name: str) -> None:
    if not (x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))):
        raise ValueError(f"{name} must be dense, row-major or channels-last: it is changed in place")


def _check_layout(x: Tensor, name: str, other: Tensor, other_name: str) -> None:
    require_like(x, name, other, other_name)
    if x.stride() != other.stride() and not _same_order(x, other):
        raise ValueError(f"{name} and {other_name} must have one memory layout: both are changed in place")


def _same_order(x: Tensor, other: Tensor) -> bool:
    """Strides of dimensions of size 1 mean nothing."""
    formats = (torch.contiguous_format, torch.channels_last) if x.dim() == 4 else (torch.contiguous_format,)
    return any(x.is_contiguous(memory_format=f) and other.is_contiguous(memory_format=f) for f in formats)


def _check_state(x: Tensor, name: str, codes: Tensor, codes_name: str) -> None:
    require_type(x, name, torch.float32)
    if name == "grad":
        require_like(x, name, codes, codes_name)  # only read: copied into the layout if it has another
    else:
        _check_layout(x, name, codes, codes_name)


def _aligned(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the memory layout of ``like``."""
    return x.contiguous() if like.is_contiguous() else x.contiguous(memory_format=torch.channels_last)
