"""Results' memory and the host's part of rounding, shared by the launchers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import launch
from qbench.kernels.random import MASK, elapsed

NEAREST, HALF_UP, STOCHASTIC = 0, 1, 2
"""Kinds of rounding in random.cuh; the number of a key's generator is added to STOCHASTIC."""

ROUNDINGS = {"nearest": NEAREST, "half_up": HALF_UP}

Draw = tuple[int, int, int, int, Tensor | None]
"""Kind of rounding, seed, tensor, step, and the steps that have elapsed since a capture, on the device."""

CODE_NAMES = {torch.uint8: "u8", torch.int8: "i8", torch.int16: "i16", torch.int32: "i32"}
"""Names of integer types in the kernels' sources."""


def dense(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor: channels-last with four dimensions, else row-major."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=dtype, device=device, memory_format=layout)


def number(device: torch.device) -> Tensor:
    """An uninitialised 0-d float32."""
    return torch.empty((), dtype=torch.float32, device=device)


def fresh_extremes(device: torch.device) -> Tensor:
    """[+inf, -inf], which kernels narrow down to the extremes of what they see."""
    target = torch.empty(2, dtype=torch.float32, device=device)
    launch("reset_extremes", 1, target, device=device, threads=32)
    return target


def zero_extremes(device: torch.device) -> Tensor:
    """The extremes of an empty tensor."""
    return torch.zeros(2, dtype=torch.float32, device=device)


def draw(rounding: str, key: Sequence[int] | None) -> Draw:
    """Kind of rounding, and the words of the key, as every encoder takes them."""
    if rounding in ROUNDINGS:
        return ROUNDINGS[rounding], 0, 0, 0, None
    assert rounding == "stochastic" and key is not None, rounding
    seed, tensor, step, generator = key
    return STOCHASTIC + generator, seed & MASK, tensor & MASK, step & MASK, elapsed()


def draw_if(key: Sequence[int] | None) -> Draw:
    """The same for formats where a key alone says that rounding is stochastic."""
    return draw("nearest" if key is None else "stochastic", key)


def rows_and_channels(x: Tensor) -> tuple[int, int]:
    """N * H * W (or N) and C of a channels-last tensor."""
    channels = x.shape[1]
    return x.shape[0] * x.shape[2:].numel(), channels
