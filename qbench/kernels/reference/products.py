"""Exact products of integer tensors: sums of (x - x_zero) * (w - w_zero), where padding contributes 0.

Operands are uint8, int8 or int16 in any combination; zero points 0-d float32 that hold an integer, or None for 0.
Four-dimensional results are channels-last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference.encode import encode_affine, extremes

LONGEST = 2**20
"""Terms of one float64 sum: at most 2^20 products below 2^32 stay below 2^53, where float64 is exact."""

Geometry = tuple[Sequence[int], Sequence[int], Sequence[int], int]
"""Stride, padding, dilation, groups."""

Product = Callable[..., Tensor]
"""The sums that a scaled form is made of: a function of this file, or another backend's in its place."""


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
    """x [N, C, H, W], w [K, C / groups, R, S] -> [N, K, H', W'] int32, int64 if ``wide``."""
    image = padded(centred(x, x_zero), padding)
    filters = by_group(centred(w, w_zero), groups)  # [G, K / G, C / G, R, S]
    size = output_size(x.shape, w.shape, stride, padding, dilation)
    total = torch.zeros(
        (groups, x.shape[0] * size[0] * size[1], w.shape[0] // groups), dtype=torch.int64, device=x.device
    )
    for r, s, window in windows(image, w.shape, size, stride, dilation):
        total += _matmul(rows_by_group(window, groups), filters[..., r, s].transpose(1, 2))
    return dense(image_of_rows(total, x.shape[0], size).to(sum_type(wide)))


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
    """e [N, K, H', W'], w [K, C / groups, R, S] -> ``input_shape``: each output spread back over its window."""
    n, c, height, width = input_shape
    rows = rows_by_group(centred(e, e_zero), groups)
    filters = by_group(centred(w, w_zero), groups)
    size = (e.shape[2], e.shape[3])
    image = torch.zeros((n, c, height + 2 * padding[0], width + 2 * padding[1]), dtype=torch.int64, device=e.device)
    for r, s, window in windows(image, w.shape, size, stride, dilation):
        window.add_(image_of_rows(_matmul(rows, filters[..., r, s]), n, size))
    inside = image[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]
    return dense(inside.to(sum_type(wide)))


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
    """x [N, C, H, W], e [N, K, H', W'] -> ``weight_shape`` [K, C / groups, R, S]: each tap's sum over all outputs."""
    image = padded(centred(x, x_zero), padding)
    errors = rows_by_group(centred(e, e_zero), groups).transpose(1, 2)  # [G, K / G, outputs]
    grad = torch.zeros(tuple(weight_shape), dtype=torch.int64, device=x.device)
    for r, s, window in windows(image, weight_shape, (e.shape[2], e.shape[3]), stride, dilation):
        grad[..., r, s] = _matmul(errors, rows_by_group(window, groups)).flatten(0, 1)
    return dense(grad.to(sum_type(wide)))


def matmul(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None, wide: bool) -> Tensor:
    """a [M, K], b [K, N] -> [M, N] int32, int64 if ``wide``."""
    total = _matmul(centred(a, a_zero)[None], centred(b, b_zero)[None])
    return total[0].to(sum_type(wide))


def conv2d_scaled(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    product: Product = conv2d,
) -> tuple[Tensor, Tensor]:
    """y = float(sum) * x_scale * w_scale + bias, each operation rounded to float32, and [min y, max y].

    w_scale: 0-d or [K]; bias: [K]. The extremes are NaN where y holds one, 0 where y is empty.
    """
    total = product(x, x_zero, w, w_zero, stride, padding, dilation, groups, True)
    y = dense(scaled(total, x_scale, channels(w_scale), None if bias is None else channels(bias)))
    return y, extremes(y)


def conv2d_encoded(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    low: Tensor,
    high: Tensor,
    bits: int,
    integer_zero_point: bool,
    *,
    product: Product = conv2d,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result of :func:`conv2d_scaled` as affine codes of [low, high], uint8; scale; zero."""
    where = (stride, padding, dilation, groups)
    y, _ = conv2d_scaled(x, x_zero, x_scale, w, w_zero, w_scale, bias, *where, product=product)
    return encode_affine(y, low, high, bits, integer_zero_point, None)


def conv2d_input_grad_scaled(
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    input_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    product: Product = conv2d_input_grad,
) -> Tensor:
    """float(sum) * e_scale * w_scale: float32 of ``input_shape``."""
    total = product(e, e_zero, w, w_zero, input_shape, stride, padding, dilation, groups, True)
    return scaled(total, e_scale, w_scale)


def add_conv2d_input_grad_(
    total: Tensor,
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    w: Tensor,
    w_zero: Tensor | None,
    w_scale: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    product: Product = conv2d_input_grad,
) -> None:
    """total += the result of ``conv2d_input_grad_scaled``."""
    where = (list(total.shape), stride, padding, dilation, groups)
    total.add_(conv2d_input_grad_scaled(e, e_zero, e_scale, w, w_zero, w_scale, *where, product=product))


def conv2d_weight_grad_scaled(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    e: Tensor,
    e_zero: Tensor | None,
    e_scale: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    product: Product = conv2d_weight_grad,
) -> Tensor:
    """float(sum) * x_scale * e_scale: float32 of ``weight_shape``."""
    total = product(x, x_zero, e, e_zero, weight_shape, stride, padding, dilation, groups, True)
    return scaled(total, x_scale, e_scale)


def matmul_scaled(
    a: Tensor,
    a_zero: Tensor | None,
    a_scale: Tensor,
    b: Tensor,
    b_zero: Tensor | None,
    b_scale: Tensor,
    bias: Tensor | None,
    *,
    product: Product = matmul,
) -> Tensor:
    """float(sum) * a_scale * b_scale + bias: float32 [M, N]. b_scale: 0-d or [N]; bias: [N]."""
    return scaled(product(a, a_zero, b, b_zero, True), a_scale, b_scale, bias)


def output_size(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int]:
    """(H', W') = (H + 2 padding - dilation (R - 1) - 1) / stride + 1, rounded down; not positive where nothing fits."""
    _, _, height, width = input_shape
    _, _, rows, columns = weight_shape
    return (
        (height + 2 * padding[0] - dilation[0] * (rows - 1) - 1) // stride[0] + 1,
        (width + 2 * padding[1] - dilation[1] * (columns - 1) - 1) // stride[1] + 1,
    )


def centred(x: Tensor, zero: Tensor | None) -> Tensor:
    values = x.to(torch.int64)
    return values if zero is None else values - zero.to(torch.int64)


def padded(x: Tensor, padding: Sequence[int]) -> Tensor:
    return torch.nn.functional.pad(x, (padding[1], padding[1], padding[0], padding[0]))


def windows(
    image: Tensor, weight_shape: Sequence[int], size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Iterator[tuple[int, int, Tensor]]:
    """For each tap (r, s) of the filter: the pixels [N, C, H', W'] of the padded image that it meets, as a view."""
    if 0 in size:
        return
    for r in range(weight_shape[2]):
        for s in range(weight_shape[3]):
            top, left = r * dilation[0], s * dilation[1]
            bottom, right = top + (size[0] - 1) * stride[0] + 1, left + (size[1] - 1) * stride[1] + 1
            yield r, s, image[:, :, top : bottom : stride[0], left : right : stride[1]]


def by_group(w: Tensor, groups: int) -> Tensor:
    return w.reshape(groups, w.shape[0] // groups, *w.shape[1:])


def rows_by_group(x: Tensor, groups: int) -> Tensor:
    """[N, C, H, W] -> [G, N * H * W, C / G]."""
    n, c, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n * height * width, groups, c // groups)
    return rows.transpose(0, 1)


def image_of_rows(rows: Tensor, n: int, size: Sequence[int]) -> Tensor:
    """The inverse of :func:`rows_by_group`."""
    groups, _, channels = rows.shape
    return rows.transpose(0, 1).reshape(n, size[0], size[1], groups * channels).permute(0, 3, 1, 2)


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Batched product of int64 matrices whose elements are below 2^16 in magnitude, exact: float64 sums of at most
    LONGEST terms, added in int64. (CUDA has no int64 matrix product.)"""
    total = torch.zeros((a.shape[0], a.shape[1], b.shape[2]), dtype=torch.int64, device=a.device)
    for start in range(0, a.shape[2], LONGEST):
        part = slice(start, start + LONGEST)
        total += torch.bmm(a[:, :, part].double(), b[:, part].double()).to(torch.int64)
    return total


def sum_type(wide: bool) -> torch.dtype:
    """Of exact sums."""
    return torch.int64 if wide else torch.int32


def channels(values: Tensor) -> Tensor:
    """A value per channel [K] as it meets [N, K, H, W]."""
    return values if values.dim() == 0 else values.view(1, -1, 1, 1)


def scaled(total: Tensor, first: Tensor, second: Tensor, bias: Tensor | None = None) -> Tensor:
    y = total.to(torch.float32) * first * second
    return y if bias is None else y + bias
