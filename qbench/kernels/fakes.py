"""Shapes, types and memory layouts of every operator's results, for tracing (torch.compile, CUDA graphs' warm-up)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qbench.kernels.reference.pooling import pooled_size
from qbench.kernels.reference.products import output_size, sum_type


def image(like: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the device of ``like``: channels-last with four dimensions, else row-major."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(tuple(shape), dtype=dtype, device=like.device, memory_format=layout)


def _flat(like: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device=like.device)


def _bits(like: Tensor) -> Tensor:
    """A bit for each element."""
    return _flat(like, ((like.numel() + 7) // 8,), torch.uint8)


def _convolved(x: Tensor, w: Tensor, geometry: Sequence[Any]) -> tuple[int, int, int, int]:
    stride, padding, dilation, _ = geometry
    return x.shape[0], w.shape[0], *output_size(x.shape, w.shape, stride, padding, dilation)


def conv2d(x: Tensor, x_zero: Tensor | None, w: Tensor, w_zero: Tensor | None, *rest: Any) -> Tensor:
    *geometry, wide = rest
    return image(x, _convolved(x, w, geometry), sum_type(wide))


def conv2d_input_grad(
    e: Tensor, e_zero: Tensor | None, w: Tensor, w_zero: Tensor | None, input_shape: Sequence[int], *rest: Any
) -> Tensor:
    return image(e, input_shape, sum_type(rest[-1]))


conv2d_weight_grad = conv2d_input_grad


def matmul(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None, wide: bool) -> Tensor:
    return _flat(a, (a.shape[0], b.shape[1]), sum_type(wide))


def conv2d_scaled(
    x: Tensor, x_zero: Tensor | None, x_scale: Tensor, w: Tensor, w_zero: Tensor | None, w_scale: Tensor,
    bias: Tensor | None, *geometry: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return image(x, _convolved(x, w, geometry), torch.float32), _flat(x, (2,))


def conv2d_encoded(
    x: Tensor, x_zero: Tensor | None, x_scale: Tensor, w: Tensor, w_zero: Tensor | None, w_scale: Tensor,
    bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, *encoding: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    shape = _convolved(x, w, (stride, padding, dilation, groups))
    return image(x, shape, torch.uint8), _flat(x, ()), _flat(x, ())


def conv2d_input_grad_scaled(
    e: Tensor, e_zero: Tensor | None, e_scale: Tensor, w: Tensor, w_zero: Tensor | None, w_scale: Tensor,
    input_shape: Sequence[int], *geometry: Any,
) -> Tensor:  # fmt: skip
    return image(e, input_shape, torch.float32)


conv2d_weight_grad_scaled = conv2d_input_grad_scaled


def conv2d_weight_grad_line(
    x: Tensor, x_zero: Tensor | None, x_scale: Tensor, e: Tensor, slope: Tensor, mean: Tensor,
    pull: Tensor, at: Tensor, weight_shape: Sequence[int], *geometry: Any,
) -> Tensor:  # fmt: skip
    return image(x, weight_shape, torch.float32)


def add_conv2d_input_grad_(total: Tensor, *arguments: Any) -> None:
    return None


def matmul_scaled(
    a: Tensor, a_zero: Tensor | None, a_scale: Tensor, b: Tensor, b_zero: Tensor | None, b_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:  # fmt: skip
    return _flat(a, (a.shape[0], b.shape[1]))


def extremes(x: Tensor) -> Tensor:
    return _flat(x, (2,))


def encode_affine(x: Tensor, low: Tensor, high: Tensor, bits: int, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    codes = image(x, x.shape, torch.uint8 if bits <= 8 else torch.int32)
    return codes, torch.empty_like(low), torch.empty_like(low)


def encode_scaled(x: Tensor, magnitude: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return image(x, x.shape, rest[-1]), _flat(x, ())


def encode_channels(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return image(x, x.shape, rest[-1]), _flat(x, (*x.shape[:1], *[1] * (x.dim() - 1)))


def decode_channels(codes: Tensor, scale: Tensor) -> Tensor:
    return image(codes, codes.shape, torch.float32)


def encode_flag(x: Tensor, magnitude: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    return image(x, x.shape, torch.int16), _flat(x, ())


def encode_binary(x: Tensor, scale: Tensor, key: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    return image(x, x.shape, torch.int8), _flat(x, ())


def encode_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    return image(x, x.shape, torch.uint8)


def look_up(codes: Tensor, table: Tensor) -> Tensor:
    return image(codes, codes.shape, torch.float32)


def decode(codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    return image(codes, codes.shape, torch.float32)


def chunk_statistics(codes: Tensor, chunks: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shape = (chunks, codes.shape[1])
    return (
        _flat(codes, shape[1:], torch.int64),
        _flat(codes, shape, torch.uint8),
        _flat(codes, shape, torch.uint8),
        _flat(codes, shape, torch.int64),
        _flat(codes, shape, torch.int64),
    )


def encode_affine_view(codes: Tensor, slope: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return image(codes, codes.shape, torch.uint8), _flat(codes, ()), _flat(codes, ())


def encode_scaled_view(codes: Tensor, slope: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *_, dtype, _at, _values = rest
    return image(codes, codes.shape, dtype), _flat(codes, ())


def view_extremes(codes: Tensor, slope: Tensor, *rest: Any) -> Tensor:
    return _flat(codes, (2,))


def encode_ranged(x: Tensor, bits: int, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    codes = image(x, x.shape, torch.uint8 if bits <= 8 else torch.int32)
    return codes, _flat(x, ()), _flat(x, ()), _flat(x, (2,))


def round_scaled(x: Tensor, *rest: Any) -> Tensor:
    return image(x, x.shape, torch.float32)


def range_norm(
    y: Tensor, low: Tensor, high: Tensor, bits: int, key: Any, chunks: int, *rest: Any
) -> tuple[Tensor, ...]:
    channels = y.shape[1]
    floats, doubles = (partial(_flat, y, (channels,), dtype) for dtype in (torch.float32, torch.float64))
    return (
        image(y, y.shape, torch.uint8), _flat(y, ()), _flat(y, ()), floats(), floats(), doubles(), doubles(), floats(),
        floats(), _flat(y, (2,)), _flat(y, (chunks, channels), torch.int64), _flat(y, (chunks, channels), torch.int64),
    )  # fmt: skip


def range_norm_gradient_(
    g: Tensor, mask: Tensor | None, window: Tensor | None, pool: Any, codes: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    low_at = rest[-2]
    masked = _flat(g, (0,)) if mask is None else image(g, g.shape, torch.float32)
    floats, places = partial(_flat, g, (codes.shape[1],)), (2 * low_at.numel(),)
    return (
        _flat(g, ()), _flat(g, ()), masked, floats(), floats(), floats(dtype=torch.float64), floats(),
        _flat(g, places, torch.int64), _flat(g, places), floats(), floats(),
    )  # fmt: skip


def encode_error(codes: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return image(codes, codes.shape, torch.uint8), _flat(codes, ()), _flat(codes, ())


def encode_error_pair(codes: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    narrow, wide = image(codes, codes.shape, torch.uint8), image(codes, codes.shape, rest[-1])
    return narrow, _flat(codes, ()), _flat(codes, ()), wide, _flat(codes, ())


def affine_view(
    codes: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    num_bytes = (codes.numel() + 7) // 8 if relu else 0
    value = image(codes, codes.shape, torch.float32)
    return value, _flat(codes, (2,)), _flat(codes, (num_bytes,), torch.uint8)


def apply_mask(g: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return image(g, g.shape, torch.float32), _flat(g, (2,))


def rectify(x: Tensor, trunk: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    mask = _flat(x, ((x.numel() + 7) // 8,), torch.uint8)
    return image(x, x.shape, torch.float32), _flat(x, (2,)), mask


def join_gradients(codes: Tensor, *rest: Any) -> Tensor:
    return image(codes, codes.shape, torch.float32)


def view_gradient_extremes(g: Tensor, *rest: Any) -> Tensor:
    return _flat(g, (2,))


def encode_view_gradient_(g: Tensor, codes: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _flat(g, ()), _flat(g, ()), _flat(g, (2, g.shape[1]), torch.int64)


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shape = x.shape[1:2]
    return _flat(x, shape, torch.float64), _flat(x, shape, torch.float64), _flat(x, shape), _flat(x, shape)


def move_average_(average: Tensor, value: Tensor, weight: float) -> None:
    return None


def level_line(mean: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(_flat(mean, mean.shape) for _ in range(5))


def level_gradient_line(sums: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(_flat(sums, sums.shape[1:]) for _ in range(5))


def encode_normalised_levels(x: Tensor, mean: Tensor, inverse: Tensor, thresholds: Tensor) -> Tensor:
    return image(x, x.shape, torch.uint8)


def level_view(
    codes: Tensor, table: Tensor, slope: Tensor, offset: Tensor, relu: bool, trunk: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return affine_view(codes, slope, offset, relu, trunk)


def level_gradient_sums(g: Tensor, *rest: Any) -> Tensor:
    return _flat(g, (2, g.shape[1]), torch.float64)


def level_gradient(g: Tensor, *rest: Any) -> Tensor:
    return image(g, g.shape, torch.float32)


def direct_line(mean: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(_flat(mean, mean.shape) for _ in range(7))


def direct_gradient_line(sums: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(_flat(sums, sums.shape[1:]) for _ in range(5))


def direct_view(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    relu = rest[-2]
    return image(x, x.shape, torch.float32), _flat(x, ((x.numel() + 7) // 8 if relu else 0,), torch.uint8)


def encode_direct_view(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return image(x, x.shape, rest[-1]), _flat(x, ())


def bounded_values(y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return image(y, y.shape, torch.float32), _bits(y), _bits(y)


def encode_bounded(y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return image(y, y.shape, rest[-1]), _flat(y, ()), _bits(y), _bits(y)


def encode_bounded_error(g: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return image(g, g.shape, rest[-1]), _flat(g, ())


def direct_gradient_sums(g: Tensor, *rest: Any) -> Tensor:
    return _flat(g, (3, g.shape[1]), torch.float64)


def direct_gradient(g: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return image(g, g.shape, torch.float32), _flat(g, (2,))


def sgd_on_grid_(codes: Tensor, *rest: Any) -> None:
    return None


adam_on_grid_ = quantized_momentum_ = shift_step_ = poison_ = sgd_on_grid_


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    return _flat(codes, ((codes.numel() * bits + 7) // 8,), torch.uint8)


def unpack_bits(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    return image(packed, shape, torch.uint8)


def max_pool2d(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], x.shape[1], *pooled_size(x.shape, kernel, stride, padding))
    return image(x, shape, torch.float32), image(x, shape, torch.uint8)


def max_pool2d_view(
    codes: Tensor, table: Tensor | None, slope: Tensor, offset: Tensor, relu: bool, *geometry: Any
) -> Any:
    return max_pool2d(codes, *geometry)


def max_pool2d_direct_view(x: Tensor, *rest: Any) -> Any:
    return max_pool2d(x, *rest[-3:])


def max_pool2d_backward(g: Tensor, window: Tensor, input_shape: Sequence[int], *rest: Any) -> Tensor:
    return image(g, input_shape, torch.float32)


def range_line(sums: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    slope, offset, batch_mean, spread = (_flat(sums, sums.shape) for _ in range(4))
    mean, inverse = (_flat(sums, sums.shape, torch.float64) for _ in range(2))
    return slope, offset, mean, inverse, batch_mean, spread, _flat(sums, (2,))


def range_gradient_line(sums: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    slope, offset, pull, grad_weight, grad_bias = (_flat(sums, sums.shape[1:]) for _ in range(5))
    mean, count = _flat(sums, sums.shape[1:], torch.float64), (2 * rest[-1].numel(),)
    return slope, offset, mean, pull, _flat(sums, count, torch.int64), _flat(sums, count), grad_weight, grad_bias
