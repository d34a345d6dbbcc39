"""Integer products through PyTorch's int8 matrix product (oneDNN), for installations without the C++ kernels.

``torch._int_mm`` adds int8 times int8 in int32. Operands of other types are taken apart into int8 digits,
x = sum of base * (digit + offset); convolutions become matrix products of the windows written out (im2col).

On CPUs without VNNI instructions oneDNN saturates pairs of products at 16 bits: versions of PyTorch that call it there
return wrong sums without a word, others take a plain loop that the reference outruns. So this is used with VNNI only,
and not before its self-test passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference import line_gradient
from qbench.kernels.reference import products as reference

LONGEST = 2**16
"""Terms of one int32 sum: 2^16 products of at most 2^14."""


def conv2d(
    x: Tensor,
    x_zero: Tensor | None,
    w: Tensor,
    w_zero: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """x [N, C, H, W], w [K, C / groups, R, S] -> [N, K, H', W']."""
    size = reference.output_size(x.shape, w.shape, stride, padding, dilation)
    columns = _columns(x, x_zero, w.shape, size, (stride, padding, dilation, groups))
    filters = reference.by_group(w, groups).flatten(2).transpose(1, 2)
    rows = _by_group(columns, x_zero, filters, w_zero)
    y = reference.image_of_rows(rows, x.shape[0], size)
    return dense(y.to(reference.sum_type(wide)))


def conv2d_input_grad(
    e: Tensor,
    e_zero: Tensor | None,
    w: Tensor,
    w_zero: Tensor | None,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """e [N, K, H', W'], w [K, C / groups, R, S] -> ``input_shape``."""
    n, c, height, width = input_shape
    size = (e.shape[2], e.shape[3])
    filters = reference.by_group(w, groups)
    rows = _by_group(reference.rows_by_group(e, groups), e_zero, filters.flatten(2), w_zero)
    columns = rows.view(*rows.shape[:2], *filters.shape[2:])
    image = torch.zeros((n, c, height + 2 * padding[0], width + 2 * padding[1]), dtype=torch.int64, device=e.device)
    for r, s, window in reference.windows(image, w.shape, size, stride, dilation):
        window.add_(reference.image_of_rows(columns[..., r, s], n, size))
    inside = image[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return dense(inside.to(reference.sum_type(wide)))


def conv2d_weight_grad(
    x: Tensor,
    x_zero: Tensor | None,
    e: Tensor,
    e_zero: Tensor | None,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    wide: bool,
) -> Tensor:
    """x [N, C, H, W], e [N, K, H', W'] -> ``weight_shape``."""
    size = (e.shape[2], e.shape[3])
    columns = _columns(x, x_zero, weight_shape, size, (stride, padding, dilation, groups))
    errors = reference.rows_by_group(e, groups).transpose(1, 2)
    grad = _by_group(errors, e_zero, columns, x_zero).view(tuple(weight_shape))
    return dense(grad.to(reference.sum_type(wide)))


def matmul(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None, wide: bool) -> Tensor:
    """a [M, K], b [K, N] -> [M, N] int32, int64 if ``wide``."""
    return _matmul(a, a_zero, b, b_zero).to(reference.sum_type(wide))


def _scaled(form: Callable[..., Any], product: reference.Product) -> Callable[..., Any]:
    """The reference's scaled form of this file's sums."""

    def run(*arguments: Any) -> Any:
        return form(*arguments, product=product)

    return run


conv2d_scaled = _scaled(reference.conv2d_scaled, conv2d)
conv2d_encoded = _scaled(reference.conv2d_encoded, conv2d)
conv2d_input_grad_scaled = _scaled(reference.conv2d_input_grad_scaled, conv2d_input_grad)
add_conv2d_input_grad_ = _scaled(reference.add_conv2d_input_grad_, conv2d_input_grad)
conv2d_weight_grad_scaled = _scaled(reference.conv2d_weight_grad_scaled, conv2d_weight_grad)
conv2d_weight_grad_line = _scaled(line_gradient.conv2d_weight_grad_line, conv2d_weight_grad)
matmul_scaled = _scaled(reference.matmul_scaled, matmul)


def _columns(
    x: Tensor,
    zero: Tensor | None,
    weight_shape: Sequence[int],
    size: Sequence[int],
    geometry: reference.Geometry,
) -> Tensor:
    """The window of every output, written out: [G, N * H' * W', C / G * R * S] codes. Padding is the zero point, whose
    product with anything is 0."""
    stride, padding, dilation, groups = geometry
    border = (padding[1], padding[1], padding[0], padding[0])
    image = torch.nn.functional.pad(x, border, value=0 if zero is None else int(zero))
    taps = [
        reference.rows_by_group(window, groups)
        for _, _, window in reference.windows(image, weight_shape, size, stride, dilation)
    ]
    return torch.stack(taps, dim=-1).flatten(2)


def _by_group(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> Tensor:
    """[G, M, K] times [G, K, N], group by group."""
    return torch.stack([_matmul(first, a_zero, second, b_zero) for first, second in zip(a, b, strict=True)])


def _matmul(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> Tensor:
    """The exact sums, int64: sum over k of (a - za)(b - zb) = a b - za colsum(b) - zb rowsum(a) + K za zb."""
    total = _plain(a, b)
    if a_zero is not None:
        total -= a_zero.long() * b.sum(0, dtype=torch.int64)
    if b_zero is not None:
        total -= b_zero.long() * a.sum(1, keepdim=True, dtype=torch.int64)
        if a_zero is not None:
            total += a.shape[1] * a_zero.long() * b_zero.long()
    return total


def _plain(a: Tensor, b: Tensor) -> Tensor:
    """a times b without zero points, int64."""
    total = torch.zeros((a.shape[0], b.shape[1]), dtype=torch.int64, device=a.device)
    if not (total.numel() and a.shape[1]):
        return total
    for a_base, a_digits, a_offset in _digits(a):
        for b_base, b_digits, b_offset in _digits(b):
            part = _int8(a_digits, b_digits)
            if a_offset:
                part += a_offset * b_digits.sum(0, dtype=torch.int64)
            if b_offset:
                part += b_offset * a_digits.sum(1, keepdim=True, dtype=torch.int64)
            total += (part + a.shape[1] * a_offset * b_offset) * (a_base * b_base)
    return total


def _digits(x: Tensor) -> list[tuple[int, Tensor, int]]:
    """(base, digits int8, offset) with x = sum of base * (digits + offset)."""
    if x.dtype == torch.int8:
        return [(1, x, 0)]
    if x.dtype == torch.uint8:
        return [(1, _signed(x), 128)]
    return [(256, (x >> 8).to(torch.int8), 0), (1, _signed((x & 255).to(torch.uint8)), 128)]


def _signed(x: Tensor) -> Tensor:
    """uint8 - 128 as int8."""
    return (x ^ 128).view(torch.int8)


def _int8(a: Tensor, b: Tensor) -> Tensor:
    """int8 [M, K] times int8 [K, N], int64."""
    total = torch.zeros((a.shape[0], b.shape[1]), dtype=torch.int64, device=a.device)
    for start in range(0, a.shape[1], LONGEST):
        part = slice(start, start + LONGEST)
        total += torch._int_mm(_dense(a[:, part]), _dense(b[part]))
    return total


def _dense(x: Tensor) -> Tensor:
    """``x`` with the strides of its shape. ``contiguous`` keeps any stride of a dimension of size 1, with which
    ``torch._int_mm`` leaves its output unwritten (a [1, K] with strides (1, 1))."""
    return x.reshape(-1).view(x.shape)
