"""Checks of arguments that several kernels share. Each raises one sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

import torch
from torch import Tensor

from qbench.kernels.random import GENERATORS, Key

BYTE_BITS = 8
LARGEST_SIZE = 2**30
"""Of a stride, padding or dilation: sums with a tensor's sizes stay below 2^31."""

GRADIENT_CODES = (torch.int8, torch.int16)
"""What a gradient may come in, with a scale, instead of float32."""

Pair = int | Sequence[int]
Draws = Key | Sequence[int] | None
"""Random bits of a kernel: a key, its list of words, or None to round to nearest."""


def pair(value: Pair, name: str, smallest: int) -> list[int]:
    """``value`` as [height, width], both from ``smallest`` to LARGEST_SIZE."""
    try:
        both = [index(size) for size in (value if isinstance(value, Iterable) else (value, value))]
    except TypeError:
        both = []
    if len(both) != 2:
        raise ValueError(f"{name} must be one whole number or two, (height, width), got {value!r}")
    if min(both) < smallest or max(both) > LARGEST_SIZE:
        raise ValueError(f"{name} must be from {smallest} to {LARGEST_SIZE}, got {value!r}")
    return both


def dense(x: Tensor) -> Tensor:
    """``x`` as the kernels read it: channels-last with four dimensions, row-major otherwise; copied only if needed."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def require_dense(x: Tensor, name: str) -> None:
    """Raise ValueError unless a kernel can write into ``x``; see :func:`dense`."""
    if not x.is_contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format):
        raise ValueError(f"{name} is overwritten, so it must be dense in memory, channels-last with four dimensions")


def words(key: Draws) -> list[int] | None:
    """The key as the operators take it."""
    if key is None:
        return None
    try:
        numbers = key.words() if isinstance(key, Key) else [index(number) for number in key]
    except TypeError:
        raise TypeError(f"a key is a Key or its four whole numbers, got {key!r}") from None
    if len(numbers) != 4:
        raise ValueError(f"a key is (seed, tensor, step, generator), got {len(numbers)} numbers")
    if numbers[3] not in range(len(GENERATORS)):
        raise ValueError(f"a key's generator must be 0 (philox) or 1 (hash), got {numbers[3]}")
    return numbers


def require_tensor(x: object, name: str) -> None:
    """Raise TypeError for anything else, a NumPy array for example, whose types have the same names."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")


def require_type(x: Tensor, name: str, *allowed: torch.dtype) -> None:
    """Raise TypeError unless the elements of ``x`` have one of the types."""
    require_tensor(x, name)
    if x.dtype not in allowed:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
        raise TypeError(f"{name} must be {names}, got {str(x.dtype).removeprefix('torch.')}")


def require_number(x: Tensor, name: str) -> None:
    """Raise unless ``x`` is a 0-d float32 tensor."""
    require_tensor(x, name)
    if x.dtype != torch.float32:
        raise TypeError(f"{name} must be float32, got {x.dtype}")
    if x.dim():
        raise ValueError(f"{name} must be one number (0 dimensions), got shape {tuple(x.shape)}")


def require_extent(x: Tensor, name: str) -> None:
    """Raise unless ``x`` is a largest magnitude, 0-d float32, or a range, [smallest, largest]."""
    if x.dtype != torch.float32:
        raise TypeError(f"{name} must be float32, got {x.dtype}")
    if x.dim() and x.shape != (2,):
        raise ValueError(f"{name} must be one number (0 dimensions) or a range [2], got shape {tuple(x.shape)}")


def require_like(x: Tensor, name: str, other: Tensor, other_name: str) -> None:
    """Raise ValueError unless the two have one shape."""
    if x.shape != other.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)} but {other_name} has {tuple(other.shape)}")


def require_rows(x: Tensor, name: str, dtype: torch.dtype) -> None:
    """Raise unless ``x`` has rows of channels: of the type, with two or four dimensions."""
    require_type(x, name, dtype)
    if x.dim() not in (2, 4):
        raise ValueError(f"{name} must be [N, C] or [N, C, H, W], got shape {tuple(x.shape)}")


def require_chunks(x: Tensor, chunks: int) -> None:
    """Raise ValueError unless so many equal chunks make up the rows of ``x``, [N, C] or [N, C, H, W]."""
    rows = x.shape[0] * x.shape[2:].numel()
    if chunks < 1 or rows % chunks:
        raise ValueError(f"chunks must divide the {rows} rows of a tensor of shape {tuple(x.shape)}, got {chunks}")


def require_byte(bits: int) -> None:
    """Raise ValueError unless codes of so many bits fit a byte."""
    if not 1 <= bits <= BYTE_BITS:
        raise ValueError(f"bits must be from 1 to {BYTE_BITS}, got {bits}")


def per_channel(values: Tensor, name: str, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """``values``, contiguous; raises unless they are of the type and of shape [count]."""
    require_type(values, name, dtype)
    if values.shape != (count,):
        raise ValueError(f"{name} must have one value per channel, [{count}], got shape {tuple(values.shape)}")
    return values.contiguous()


def mask_of(mask: Tensor, count: int, name: str = "mask") -> Tensor:
    """``mask``, contiguous; raises unless it is a bit for each of ``count`` elements in whole bytes (uint8)."""
    require_type(mask, name, torch.uint8)
    expected = -(-count // 8)
    if mask.shape != (expected,):
        raise ValueError(f"{name} of {count} elements has {expected} bytes, got shape {tuple(mask.shape)}")
    return mask.contiguous()
