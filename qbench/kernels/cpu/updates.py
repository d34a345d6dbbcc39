"""Updates of weights on a grid in C++: as :mod:`qbench.kernels.reference.updates`, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from qbench.kernels.cpu.calls import TYPES, call, drawing, pointer, rule_and_key


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
    """In place on codes and momentum."""
    call(
        "sgd_on_grid", codes.data_ptr(), TYPES.index(codes.dtype), codes.numel(), grad.data_ptr(), pointer(momentum),
        lr, weight_decay, mu, nesterov, first, scale, low, high, *rule_and_key(rounding, key),
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
    """In place on codes, m and v."""
    size, correction = lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
    call(
        "adam_on_grid", codes.data_ptr(), TYPES.index(codes.dtype), codes.numel(), grad.data_ptr(), m.data_ptr(),
        v.data_ptr(), size, beta1, beta2, eps, correction, weight_decay, scale, low, high,
        *rule_and_key(rounding, key),
    )  # fmt: skip


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
    """In place on weight, accumulator and scale."""
    call(
        "quantized_momentum", weight.data_ptr(), accumulator.data_ptr(), scale.data_ptr(), weight.numel(),
        grad.data_ptr(), weight_decay, levels, momentum_quarters, lr_code, limit, *drawing(key),
    )  # fmt: skip


def shift_step_(codes: Tensor, scale: Tensor, grad: Tensor, eta: float, limit: int, key: Sequence[int] | None) -> None:
    """In place on codes and scale."""
    call(
        "shift_step", codes.data_ptr(), TYPES.index(codes.dtype), scale.data_ptr(), codes.numel(), grad.data_ptr(), eta,
        limit, *drawing(key),
    )  # fmt: skip


def poison_(scale: Tensor, x: Tensor) -> None:
    """In place on scale."""
    call("poison", scale.data_ptr(), x.data_ptr(), x.numel())
