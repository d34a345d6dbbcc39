"""What all replacements of batch norm share: per-channel rows, affine parameters, running statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qbench.kernels.passes import move_average_

FloatNorm = nn.BatchNorm1d | nn.BatchNorm2d


def rows_of(x: Tensor) -> Tensor:
    """x [N, C], [N, C, L] or [N, C, H, W] as rows [N * L, C] or [N * H * W, C], in this order; a view of a tensor that
    is channels-last in memory."""
    return x if x.dim() == 2 else x.movedim(1, -1).reshape(-1, x.shape[1])


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`rows_of`; channels-last in memory."""
    if like.dim() == 2:
        return rows
    n, c, *places = like.shape
    return rows.reshape(n, *places, c).movedim(-1, 1)


def filled(rows: Tensor, like: Tensor) -> Tensor:
    """As :func:`from_rows`, of rows that nobody else holds: their own memory in the shape of ``like``, and no view of
    it. What a node of the graph returns may then be written over, as ``nn.ReLU(inplace=True)`` and ``y += x`` do."""
    if like.dim() == 2:
        return rows
    rows = rows.contiguous()
    shaped = from_rows(rows, like)
    return rows.as_strided_(shaped.shape, shaped.stride())


def scaled_and_shifted(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """rows [n, C] * weight + bias, the product rounded before the sum as in the kernels of fused blocks:
    ``torch.addcmul`` rounds once where the CPU multiplies and adds in one instruction."""
    return rows * weight + bias


def moments(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and (biased) variance of each column of rows [n, C], and the centred rows.

    Two passes: as exact as ``torch.var_mean`` and, over the first dimension on a CPU, many times faster.
    """
    mean = rows.mean(0)
    centred = rows - mean
    return mean, centred.square().mean(0), centred


class BatchStatistics(nn.Module):
    """Affine parameters of the float norm it replaces, and running statistics for inference.

    momentum: weight of the new value. running_scale holds what the subclass makes of the spread. Both start from the
    float norm's, so that a trained model goes on from its own.
    """

    running_mean: Tensor
    running_scale: Tensor

    def __init__(self, norm: FloatNorm, momentum: float) -> None:
        super().__init__()
        self.weight = norm.weight
        self.bias = norm.bias
        self.momentum = momentum
        assert norm.running_mean is not None and norm.running_var is not None
        self.register_buffer("running_mean", norm.running_mean.clone())
        self.register_buffer("running_scale", self.scale_of(norm.running_var))

    def scale_of(self, variance: Tensor) -> Tensor:
        """What ``running_scale`` is for a variance [C]: here its root; 1 for 1."""
        return variance.sqrt()

    def track(self, mean: Tensor, scale: Tensor) -> None:
        """Move the running statistics towards this batch's: mean and scale [C], which carry no gradient."""
        for average, value in ((self.running_mean, mean), (self.running_scale, scale)):
            if average.dtype == torch.float32:
                move_average_(average, value, self.momentum)
            else:  # a model in another type, which float modules alone serve
                average.lerp_(value.to(average.dtype), self.momentum)
