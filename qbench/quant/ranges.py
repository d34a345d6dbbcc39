"""Ranges of tensors: their extremes, or the mean of the samples'."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.encoding import extremes
from qbench.quant.formats import Affine

Range = tuple[Tensor, Tensor]
"""Smallest and largest value, 0-d or per channel."""


def measure_range(spec: Affine, x: Tensor) -> Range:
    """The range an affine format takes from ``x``: extremes of the tensor, of each channel (dimension 0), or the mean
    over the samples (dimension 0) of each sample's extremes."""
    if x.numel() == 0 or spec.takes_extremes:
        return pair_of(extremes(x))
    rows = x.flatten(1) if x.dim() > 1 else x.reshape(-1, 1)
    if spec.granularity == "channel":
        shape = (-1, *[1] * (x.dim() - 1))
        return rows.amin(1).view(shape), rows.amax(1).view(shape)
    return rows.amin(1).mean(), rows.amax(1).mean()


def pair_of(range_: Tensor) -> Range:
    """Smallest and largest value of float32 [2]; unpacking a tensor does the same in three times the time."""
    low, high = range_.unbind()
    return low, high


def poisoned(x: Tensor, source: Tensor) -> Tensor:
    """``x``, NaN where ``source`` (of a float type, broadcast to ``x``) is not finite."""
    return torch.add(x, source, alpha=0)  # 0 times what is not finite is NaN; one call takes half the time of two


def largest_magnitude(x: Tensor) -> Tensor:
    """max |x| as a 0-d tensor; 0 for an empty tensor, NaN where one is in it."""
    return extremes(x).abs().max()
