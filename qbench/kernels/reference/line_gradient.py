"""Reference of the weight gradient with an error that is a line of codes; see :mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qbench.kernels.checks import dense
from qbench.kernels.reference import products
from qbench.kernels.reference.products import Geometry, Product


def conv2d_weight_grad_line(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    e: Tensor,
    slope: Tensor,
    mean: Tensor,
    pull: Tensor,
    at: Tensor,
    weight_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *,
    product: Product = products.conv2d_weight_grad,
) -> Tensor:
    """float32 of ``weight_shape``, channels-last. product: the exact sums of x and e."""
    where = (stride, padding, dilation, groups)
    sums = product(x, x_zero, e, None, weight_shape, *where, True)
    return finish(sums, e.shape[2:], x, x_zero, x_scale, slope, mean, pull, at, where)


def finish(
    sums: Tensor, size: Sequence[int], x: Tensor, x_zero: Tensor | None, x_scale: Tensor, slope: Tensor,
    mean: Tensor, pull: Tensor, at: Tensor, where: Geometry,
) -> Tensor:  # fmt: skip
    """The gradient from the exact ``sums`` of x - x_zero and e, of any type that holds them, [K, C / groups, R, S].

    size: of e, (H', W').
    """
    stride, padding, dilation, _ = where
    image = products.padded(products.centred(x, x_zero), padding)
    met = _of_filters(_met_by_all(image, sums.shape, size, stride, dilation), sums.shape, where)
    pulled = _of_filters(_met_by_extremes(image, at, sums.shape, size, stride, dilation), sums.shape, where)
    line = _per_filter(slope) * (sums.double() - _per_filter(mean) * met.double())
    line += _per_filter(pull) * pulled.double()
    return dense(line.float() * x_scale)


def _per_filter(values: Tensor) -> Tensor:
    """A value per filter [K] as it meets [K, C / groups, R, S], float64."""
    return values.double().view(-1, 1, 1, 1)


def _met_by_all(
    image: Tensor, weight_shape: Sequence[int], size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """What all outputs meet at each tap, added up: int64 [1, C, R, S]. image: centred and padded."""
    sums = torch.zeros((1, image.shape[1], *weight_shape[2:]), dtype=torch.int64, device=image.device)
    for r, s, window in products.windows(image, weight_shape, size, stride, dilation):
        sums[0, :, r, s] = window.sum((0, 2, 3))
    return sums


def _met_by_extremes(
    image: Tensor, at: Tensor, weight_shape: Sequence[int], size: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:  # fmt: skip
    """What each filter's minima meet at each tap less what its maxima meet: int64 [K, C, R, S]."""
    filters = weight_shape[0]
    total = torch.zeros((filters, image.shape[1], *weight_shape[2:]), dtype=torch.int64, device=image.device)
    if not at.numel():
        return total
    outputs = at.view(2, -1, filters) // filters
    n, row, column = outputs // (size[0] * size[1]), outputs // size[1] % size[0], outputs % size[1]
    for r in range(weight_shape[2]):
        for s in range(weight_shape[3]):
            y, x = row * stride[0] + r * dilation[0], column * stride[1] + s * dilation[1]
            for sign, chunk in ((sign, chunk) for sign in (0, 1) for chunk in range(outputs.shape[1])):
                pixels = image[n[sign, chunk], :, y[sign, chunk], x[sign, chunk]]
                total[..., r, s] += pixels if sign else -pixels
    return total


def _of_filters(channels: Tensor, weight_shape: Sequence[int], where: Geometry) -> Tensor:
    """[1 or K, C, R, S] -> ``weight_shape``: of each filter, the channels of its group."""
    groups, (filters, per_group, *taps) = where[3], weight_shape
    each = torch.arange(filters, device=channels.device)
    by_group = channels.expand(filters, *channels.shape[1:]).reshape(filters, groups, per_group, *taps)
    return by_group[each, each // max(1, filters // groups)]
