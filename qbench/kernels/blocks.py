"""Range batch norm on codes (Banner et al. 2018): the few numbers per channel that the passes over the tensor need.

Codes q of a tensor of ``rows`` rows and C channels stand for scale * (q - zero). Per channel, in float64:

    m = mean(q)    D = constant * scale * mean over chunks of (max q - min q) + eps
    y = weight * scale * (q - m) / D + bias                     = slope * q + offset
    gradient codes e stand for se * (e - ze); with sums S = sum(e - ze), T = sum((e - ze) (q - m)):
    d weight = se * scale * T / D,   d bias = se * S
    dx = weight * se * (e - ze - S / rows) / D                  = slope * e + offset, and at the extremes
    dx -= pull at each chunk's maximum, dx += pull at its minimum, pull = constant / chunks * weight * d weight / D

All vectors are [C]; sums and places come from :mod:`qbench.kernels.passes`. The results are the same bit for bit on
every backend. Arguments are trusted: they are results of other kernels.
"""

from __future__ import annotations

from torch import Tensor

from qbench.kernels.library import ops


def range_line(
    sums: Tensor, lows: Tensor, highs: Tensor, rows: int, scale: Tensor, zero: Tensor, weight: Tensor, bias: Tensor,
    constant: float, eps: float, relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The forward pass. sums int64 [C], lows and highs uint8 [chunks, C]: as ``chunk_statistics`` gives them; scale,
    zero: of the codes, 0-d; relu: whether the extremes are those behind a ReLU.

    Returns slope and offset float32; mean of the codes and 1 / D float64; the batch's mean and D float32; the smallest
    and largest output float32 [2], exact because rounding is monotone.
    """
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor] = ops.range_line.default(
        sums, lows, highs, rows, scale, zero, weight, bias, constant, eps, relu
    )
    return result


def range_gradient_line(
    sums: Tensor, rows: int, scale: Tensor, zero: Tensor, step: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor,
    constant: float, codes: Tensor, low_at: Tensor, high_at: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """The backward pass. sums int64 [2, C] = (sum e, sum e * q); scale, zero: of the gradient codes e, 0-d; step: of
    the codes q; codes: e, channels-last; low_at, high_at: rows of the chunks' extremes, int64 [chunks, C].

    Returns slope and offset float32; flat elements int64 [2 * chunks * C] (maxima, then minima) and the gradient there,
    float32; the gradients of weight and bias, float32. Where a chunk's maximum and minimum are one element (a constant
    chunk), both pulls act on it.
    """
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor] = ops.range_gradient_line.default(
        sums, rows, scale, zero, step, mean, inverse, weight, constant, codes, low_at, high_at
    )
    return result
