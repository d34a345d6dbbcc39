"""Updates of weights that live on an integer grid, in place. No float copy of the weights exists.

Element i is element i of the memory: all tensors of a call are dense and laid out alike. Float arithmetic is float32,
one rounding per operation, in the order written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.reference.encode import (
    clipped,
    extremes,
    limits_of,
    number,
    rounded_to_integer,
    scale_of,
    without_nan,
)


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
    key: Sequence[int] | None,
) -> None:
    """w = code * scale; d = grad + weight_decay * w; buffer = d if ``first``, else mu * buffer + d;
    d = d + mu * buffer (Nesterov) or buffer; code = the grid's code of w - lr * d."""
    w = in_memory(codes).float() * number(scale, codes)
    d = in_memory(grad) + number(weight_decay, codes) * w
    if momentum is not None:
        buffer = in_memory(momentum)
        buffer.copy_(d if first else number(mu, codes) * buffer + d)
        d = d + number(mu, codes) * buffer if nesterov else buffer
    in_memory(codes).copy_(_on_grid(w - number(lr, codes) * d, codes.dtype, scale, low, high, rounding, key))


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
    key: Sequence[int] | None,
) -> None:
    """w = code * scale; g = grad + weight_decay * w; m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * (g * g); code = the grid's code of w - size * (m / (sqrt(v) / correction + eps)) with
    size = lr / (1 - beta1^step) and correction = sqrt(1 - beta2^step), both rounded from float64."""
    w = in_memory(codes).float() * number(scale, codes)
    g = in_memory(grad) + number(weight_decay, codes) * w
    first, second = in_memory(m), in_memory(v)
    first.copy_(number(beta1, codes) * first + number(1 - beta1, codes) * g)
    second.copy_(number(beta2, codes) * second + number(1 - beta2, codes) * (g * g))
    size = number(lr / (1 - beta1**step), codes)
    root = second.double().sqrt().float()  # PyTorch's own for float32 is not the nearest number on every CPU
    denominator = root / number((1 - beta2**step) ** 0.5, codes) + number(eps, codes)
    moved = w - size * (first / denominator)
    in_memory(codes).copy_(_on_grid(moved, codes.dtype, scale, low, high, rounding, key))


def _on_grid(
    w: Tensor,
    dtype: torch.dtype,
    scale: float,
    low: float,
    high: float,
    rounding: str,
    key: Sequence[int] | None,
) -> Tensor:
    """clip(round(w / scale), low, high), or for a binary grid the sign of w, or +1 with probability
    clip((w / scale + 1) / 2, 0, 1), else -1. 0 where w is NaN."""
    if rounding == "binary":
        return without_nan(torch.where(w.isnan(), w, torch.where(w >= 0, 1.0, -1.0))).to(dtype)
    y = w / number(scale, w)
    if rounding == "binary_stochastic":
        drawn = rounded_to_integer(((y + 1) * 0.5).clamp(0, 1), "stochastic", key)
        return without_nan(drawn * 2 - 1).to(dtype)
    return clipped(rounded_to_integer(y, rounding, key), *limits_of(dtype, low, high)).to(dtype)


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
    key: Sequence[int] | None,
) -> None:
    """d = grad + weight_decay * (weight * scale);
    g = clip(round(d / (P / levels)), +-(levels - 1)) with P the power of two nearest to max |d|;
    accumulator = momentum_quarters * round(accumulator / 4) + g;
    weight = clip(weight - lr_code * accumulator, +-limit).

    weight: int32 in units of 2^-23; accumulator: int32 in units of 2^-14; lr_code in units of 2^-9. scale: NaN from
    here on where d is not finite.
    """
    d = in_memory(grad) + number(weight_decay, grad) * (in_memory(weight).float() * scale)
    extent = extremes(d)
    scale.add_((extent * 0).sum())
    unit = scale_of(extent, "power", levels)
    rounded = rounded_to_integer(d / unit, "nearest" if key is None else "stochastic", key)
    g = clipped(rounded, 1.0 - levels, levels - 1.0).to(torch.int64)
    memory = in_memory(accumulator)
    memory.copy_(momentum_quarters * _quarter(memory.to(torch.int64)) + g)
    moved = in_memory(weight).to(torch.int64) - lr_code * memory.to(torch.int64)
    in_memory(weight).copy_(moved.clamp(-limit, limit))


def shift_step_(codes: Tensor, scale: Tensor, grad: Tensor, eta: float, limit: int, key: Sequence[int] | None) -> None:
    """code = clip(code - round(grad / (P / eta)), +-limit) with P the power of two nearest to max |grad|.

    scale: NaN from here on where the gradient is not finite.
    """
    gradient = in_memory(grad)
    extent = extremes(gradient)
    scale.add_((extent * 0).sum())
    rounded = rounded_to_integer(
        gradient / scale_of(extent, "power", eta), "nearest" if key is None else "stochastic", key
    )
    steps = clipped(rounded, *limits_of(torch.int32, -torch.inf, torch.inf)).to(torch.int32)
    memory = in_memory(codes)
    memory.copy_((memory.to(torch.int32) - steps).clamp(-limit, limit))


def poison_(scale: Tensor, x: Tensor) -> None:
    """The scale becomes NaN where a value is not finite."""
    scale.add_((extremes(x) * 0).sum())


def _quarter(a: Tensor) -> Tensor:
    """a / 4 rounded half to even."""
    floor, rest = a >> 2, a & 3
    return floor + ((rest == 3) | ((rest == 2) & (floor & 1 == 1))).to(a.dtype)


def in_memory(x: Tensor) -> Tensor:
    """The elements of a dense tensor in the order of its memory, as a flat view."""
    return x.as_strided((x.numel(),), (1,))
