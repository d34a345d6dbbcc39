"""Reference of the weight gradient with an error that is a line of codes; see :mod:`qbench.kernels.line_gradient`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from qbench.kernels.reference import products
from qbench.kernels.reference.products import Product

Geometry = tuple[Sequence[int], Sequence[int], Sequence[int], int]
"""Stride, padding, dilation, groups."""


def conv2d_weight_grad_line(
    x: Tensor,
    x_zero: Tensor | None,
    x_scale: Tensor,
    e: Tensor,
    slope: Tensor,
    offset: Tensor,
    at: Tensor,
    values: Tensor,
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
    return finish(sums, x, x_zero, x_scale, e, slope, offset, at, values, where)


def finish(
    sums: Tensor, x: Tensor, x_zero: Tensor | None, x_scale: Tensor, e: Tensor, slope: Tensor, offset: Tensor,
    at: Tensor, values: Tensor, where: Geometry,
) -> Tensor:  # fmt: skip
    """The gradient from the exact ``sums`` of x - x_zero and e, of any type that holds them, [K, C / groups, R, S]."""
    met = _windows_met(x, x_zero, sums.shape, e.shape[2:], where)
    line = per_filter(slope) * sums.double() + per_filter(offset) * met.double()
    replaced = _replaced(x, x_zero, e, slope, offset, at, values, sums.shape, where)
    return ((line.float() + replaced) * x_scale).contiguous(memory_format=torch.channels_last)


def per_filter(values: Tensor) -> Tensor:
    """A value per filter [K] as it meets [K, C / groups, R, S], float64."""
    return values.double().view(-1, 1, 1, 1)


def _windows_met(
    x: Tensor, x_zero: Tensor | None, weight_shape: Sequence[int], size: Sequence[int], where: Geometry
) -> Tensor:
    """Sums of the pixels that each element of a filter meets: int64 of ``weight_shape``."""
    stride, padding, dilation, groups = where
    image = products.padded(products.centred(x, x_zero), padding)
    sums = torch.zeros((x.shape[1], *weight_shape[2:]), dtype=torch.int64, device=x.device)
    for r, s, window in products.windows(image, weight_shape, size, stride, dilation):
        sums[:, r, s] = window.sum((0, 2, 3))
    return _of_filters(sums.expand(weight_shape[0], *sums.shape), groups)


def _of_filters(channels: Tensor, groups: int) -> Tensor:
    """[K, C, ...] -> [K, C / groups, ...]: of each filter, the channels of its group."""
    filters, all_channels = channels.shape[:2]
    each = torch.arange(filters, device=channels.device)
    by_group = channels.reshape(filters, groups, all_channels // groups, *channels.shape[2:])
    return by_group[each, each // max(1, filters // groups)]


def _replaced(
    x: Tensor, x_zero: Tensor | None, e: Tensor, slope: Tensor, offset: Tensor, at: Tensor, values: Tensor,
    weight_shape: Sequence[int], where: Geometry,
) -> Tensor:  # fmt: skip
    """What the replaced elements add to the line's, float32 of ``weight_shape``: one element of each filter at a time,
    in their order, each operation rounded."""
    stride, padding, dilation, groups = where
    total = torch.zeros(tuple(weight_shape), device=x.device)
    if not at.numel() or not total.numel():
        return total
    image = products.padded(products.centred(x, x_zero).float(), padding)
    inside = products.padded(torch.ones_like(x), padding)
    codes, filters = e.permute(0, 2, 3, 1).flatten(), weight_shape[0]
    for places, entries, is_new in _one_of_each_filter(at, values, filters):
        error = slope.double() * codes[places].double() + offset.double()
        delta = (entries.double() - error).float()
        n, y, column = _coordinates(places // filters, e.shape[2:])
        taps = [
            (n, y * stride[0] + r * dilation[0], column * stride[1] + s * dilation[1])
            for r in range(weight_shape[2]) for s in range(weight_shape[3])
        ]  # fmt: skip
        pixels, known = (torch.stack([of[n, :, row, x_] for n, row, x_ in taps], dim=2) for of in (image, inside))
        met, counts = (_of_filters(each, groups).view(total.shape) for each in (pixels, known))
        is_met = (counts > 0) & is_new.view(-1, 1, 1, 1)
        total += torch.where(is_met, delta.view(-1, 1, 1, 1) * met, 0.0)
    return total


def _coordinates(outputs: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column of outputs counted through all images."""
    return outputs // (size[0] * size[1]), outputs // size[1] % size[0], outputs % size[1]


def _one_of_each_filter(at: Tensor, values: Tensor, filters: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Places and values of one replaced element per filter, and whether it comes first at its place: where a chunk's
    maximum is its minimum too, one value stands for both."""
    places, entries = at.view(2, -1, filters), values.view(2, -1, filters)
    for chunk in range(places.shape[1]):
        yield places[0, chunk], entries[0, chunk], torch.ones(filters, dtype=torch.bool, device=at.device)
    for chunk in range(places.shape[1]):
        yield places[1, chunk], entries[1, chunk], places[1, chunk] != places[0, chunk]
