"""In-place updates of weights on an integer grid: launchers of updates.cu. See :mod:`qbench.kernels.updates`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.encode import extremes
from qbench.kernels.cuda.launch import Argument, flat_grid, launch
from qbench.kernels.cuda.layout import CODE_NAMES, draw, draw_if, fresh_extremes
from qbench.kernels.reference.encode import limits_of

BINARY_GRIDS = {"binary": (1, "nearest"), "binary_stochastic": (2, "stochastic")}
"""Kind of the grid in updates.cu, and how its probability is rounded. 0: integers."""


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
    """One step of SGD; codes int8 or int16, momentum null without momentum."""
    launch(
        f"sgd_on_grid<{CODE_NAMES[codes.dtype]}>", flat_grid(codes.numel(), codes.device),
        codes, grad, momentum, codes.numel(), float(lr), float(weight_decay), float(mu), nesterov, first,
        *_grid(codes.dtype, scale, low, high, rounding, key), device=codes.device,
    )  # fmt: skip


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
    """One step of Adam; the bias corrections are rounded from float64."""
    corrections = (lr / (1 - beta1**step), beta1, 1 - beta1, beta2, 1 - beta2, (1 - beta2**step) ** 0.5, eps)
    launch(
        f"adam_on_grid<{CODE_NAMES[codes.dtype]}>", flat_grid(codes.numel(), codes.device),
        codes, grad, m, v, codes.numel(), *(float(value) for value in corrections), float(weight_decay),
        *_grid(codes.dtype, scale, low, high, rounding, key), device=codes.device,
    )  # fmt: skip


def _grid(
    dtype: torch.dtype, scale: float, low: float, high: float, rounding: str, key: Sequence[int] | None
) -> tuple[Argument, ...]:
    """Kind, scale, bounds and rounding of a grid, as the kernels take them."""
    kind, drawn = BINARY_GRIDS.get(rounding, (0, rounding))
    return kind, float(scale), *limits_of(dtype, low, high), *draw(drawn, key)


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
    """One step of WAGEUBN's momentum on int32 weights (units of 2^-23) and accumulators (units of 2^-14)."""
    count, device = weight.numel(), weight.device
    grid, decayed, extent = flat_grid(count, device), (weight, grad, scale, float(weight_decay)), fresh_extremes(device)
    launch("decayed_extremes", grid, *decayed, count, extent, device=device)
    launch(
        "quantized_momentum", grid, *decayed, accumulator, count, extent, float(levels), momentum_quarters, lr_code,
        limit, *draw_if(key), device=device,
    )  # fmt: skip
    _poison(scale, extent, count)


def shift_step_(codes: Tensor, scale: Tensor, grad: Tensor, eta: float, limit: int, key: Sequence[int] | None) -> None:
    """One step of WAGE's update on int8 or int16 codes."""
    count, device = codes.numel(), codes.device
    extent = extremes(grad)
    most = limits_of(torch.int32, -math.inf, math.inf)[1]
    launch(
        f"shift_step<{CODE_NAMES[codes.dtype]}>", flat_grid(count, device),
        codes, grad, count, extent, float(eta), limit, most, *draw_if(key), device=device,
    )  # fmt: skip
    _poison(scale, extent, count)


def poison_(scale: Tensor, x: Tensor) -> None:
    """The scale becomes NaN where a value is not finite."""
    _poison(scale, extremes(x), x.numel())


def _poison(scale: Tensor, extent: Tensor, count: int) -> None:
    launch("poison", 1, scale, extent, count, device=scale.device, threads=32)
