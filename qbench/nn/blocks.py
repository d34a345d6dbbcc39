"""The blocks every model is made of: what a recipe can recognise and replace.

One block is ``conv -> norm -> (+ trunk) -> activation``. Two marks tell conversion where the residual stream runs:
``to_trunk`` on a block whose output lies on it, and :class:`Branch` where a residual branch taps it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNormAct(nn.Module):
    """Convolution without bias, norm, optional residual addition, optional ReLU.

    x [N, C_in, H, W] float -> [N, C_out, H', W']. to_trunk: the output lies on the residual stream (it is added to,
    or it starts the stream); such an output's gradient is the trunk's.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        activation: bool = True,
        to_trunk: bool = False,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 if padding is None else padding
        self.conv: nn.Module = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.activation = activation
        self.to_trunk = to_trunk

    def forward(self, x: Tensor, trunk: Tensor | None = None) -> Tensor:
        """Apply the block; ``trunk`` [N, C_out, H', W'] is added before the activation."""
        y: Tensor = self.norm(self.conv(x))
        if trunk is not None:
            y = y + trunk
        return torch.relu_(y) if self.activation else y


class LinearNormAct(nn.Module):
    """Linear without bias, norm, ReLU: x [N, in_features] float -> [N, out_features]."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear: nn.Module = nn.Linear(in_features, out_features, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return torch.relu_(self.norm(self.linear(x)))


class Branch(nn.Identity):
    """Where a residual branch taps the trunk: everything that enters a branch passes here once.

    The gradient arriving here is the sum over the branch's consumers (WAGEUBN's E1).
    """
