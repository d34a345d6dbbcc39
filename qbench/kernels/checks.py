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

SIGNED = (torch.int8, torch.int16, torch.int32)
"""What signed codes may be stored in."""

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
    """``x`` as the kernels read it: channels-last with four dimensions, row-major otherwise; copied only if needed.

    An image's dimensions of size 1 leave their strides open. They are set too, and with them those of the results: by
    them PyTorch's float convolutions and batch norms choose the order of their sums.
    """
    if x.dim() != 4:
        return x.contiguous()
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, channels_last_strides(x)) if 1 in x.shape else x


def channels_last_strides(x: Tensor) -> tuple[int, int, int, int]:
    """Of an image of the shape of ``x``."""
    _, c, h, w = x.shape
    return h * w * c, 1, w * c, c


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


def require_signed(dtype: torch.dtype) -> None:
    """Raise TypeError unless signed codes may be stored in ``dtype``."""
    if dtype not in SIGNED:
        raise TypeError(f"codes must be int8, int16 or int32, got {dtype}")


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


def require_bits(bits: int, most: int = BYTE_BITS) -> None:
    """Raise ValueError unless there are from 1 to ``most`` bits."""
    if not 1 <= bits <= most:
        raise ValueError(f"bits must be from 1 to {most}, got {bits}")


def require_rounding(rounding: str, key: Draws, known: Sequence[str]) -> None:
    """Raise ValueError unless ``rounding`` is a known one, with a key where it is stochastic and without elsewhere."""
    if rounding not in known:
        raise ValueError(f"rounding must be one of {', '.join(known)}, got {rounding!r}")
    if rounding.endswith("stochastic") != (key is not None):
        raise ValueError(
            f"a key goes with stochastic rounding, and only with it; rounding is {rounding!r}, key {key!r}"
        )


def per_channel(values: Tensor, name: str, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """``values``, contiguous; raises unless they are of the type and of shape [count]."""
    require_type(values, name, dtype)
    if values.shape != (count,):
        raise ValueError(f"{name} must have one value per channel, [{count}], got shape {tuple(values.shape)}")
    return values.contiguous()


def each_per_channel(count: int, dtype: torch.dtype = torch.float32, **vectors: Tensor) -> list[Tensor]:
    """:func:`per_channel` of each vector under its name."""
    return [per_channel(values, name, count, dtype) for name, values in vectors.items()]


def view_line(codes: Tensor, slope: Tensor, offset: Tensor) -> list[Tensor]:
    """Slope and offset of a view of ``codes``, contiguous; raises unless these are uint8 rows and those per channel."""
    require_rows(codes, "codes", torch.uint8)
    return each_per_channel(codes.shape[1], slope=slope, offset=offset)


def norm_vectors(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """What the line of a norm is made of, contiguous; raises unless mean and variance are float64 [C], weight and bias
    float32 [C]."""
    if mean.dim() != 1:
        raise ValueError(f"mean must have one value per channel, got shape {tuple(mean.shape)}")
    require_type(mean, "mean", torch.float64)
    require_type(variance, "variance", torch.float64)
    require_like(variance, "variance", mean, "mean")
    return [mean.contiguous(), variance.contiguous(), *each_per_channel(len(mean), weight=weight, bias=bias)]


def dense_like(x: Tensor, name: str, other: Tensor, other_name: str) -> Tensor:
    """``x``, dense; raises unless it is float32 of the shape of ``other``."""
    require_type(x, name, torch.float32)
    require_like(x, name, other, other_name)
    return dense(x)


def elements_of(at: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Elements' indices and their values, contiguous; raises unless they are int64 and float32 lists of one length."""
    require_type(at, "at", torch.int64)
    require_type(values, "values", torch.float32)
    if at.dim() != 1:
        raise ValueError(f"at must be a list of element indices, got shape {tuple(at.shape)}")
    require_like(values, "values", at, "at")
    return at.contiguous(), values.contiguous()


def mask_of(mask: Tensor, count: int, name: str = "mask") -> Tensor:
    """``mask``, contiguous; raises unless it is a bit for each of ``count`` elements in whole bytes (uint8)."""
    require_type(mask, name, torch.uint8)
    expected = -(-count // 8)
    if mask.shape != (expected,):
        raise ValueError(f"{name} of {count} elements has {expected} bytes, got shape {tuple(mask.shape)}")
    return mask.contiguous()
