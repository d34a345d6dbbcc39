"""The two residual blocks, post-activation (He et al. 2015), on the common conv-norm-activation block."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from qbench.nn.blocks import Branch, ConvNormAct
from qbench.nn.deferred import done_with


class ResidualBlock(nn.Module):
    """Base of the residual blocks: where the branch taps the trunk, and the shortcut around it.

    x [N, in_channels, H, W] float -> [N, channels * expansion, ceil(H / stride), ceil(W / stride)].
    """

    expansion: ClassVar[int]

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.branch = Branch()
        self.projection: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.projection = ConvNormAct(in_channels, out_channels, 1, stride=stride, activation=False, to_trunk=True)

    def _tap(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What enters the branch, and the trunk to add to its output."""
        tap: Tensor = self.branch(x)
        if self.projection is None:
            return tap, x
        trunk = self.projection(tap)
        done_with(x)  # the branch reads what the projection made of it
        return tap, trunk


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(in_channels, channels, stride)
        self.conv1 = ConvNormAct(in_channels, channels, 3, stride=stride)
        self.conv2 = ConvNormAct(channels, channels, 3, to_trunk=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        tap, trunk = self._tap(x)
        y: Tensor = self.conv2(self.conv1(tap), trunk)
        return y


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions; the stride sits on the 3x3 (the "v1.5" that torchvision builds)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__(in_channels, channels, stride)
        self.conv1 = ConvNormAct(in_channels, channels, 1)
        self.conv2 = ConvNormAct(channels, channels, 3, stride=stride)
        self.conv3 = ConvNormAct(channels, channels * self.expansion, 1, to_trunk=True)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        tap, trunk = self._tap(x)
        y: Tensor = self.conv3(self.conv2(self.conv1(tap)), trunk)
        return y


def stages(
    block: type[ResidualBlock], in_channels: int, widths: tuple[int, ...], counts: tuple[int, ...]
) -> nn.Sequential:
    """Stages of ``counts[i]`` blocks of ``widths[i]`` channels; every stage but the first halves the image."""
    sequence: list[nn.Module] = []
    for index, (width, count) in enumerate(zip(widths, counts, strict=True)):
        blocks: list[nn.Module] = []
        for position in range(count):
            blocks.append(block(in_channels, width, 2 if index > 0 and position == 0 else 1))
            in_channels = width * block.expansion
        sequence.append(nn.Sequential(*blocks))
    return nn.Sequential(*sequence)
