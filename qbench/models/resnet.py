"""ResNet-18, -34 and -50 exactly as torchvision builds them, so that its checkpoints load."""

from __future__ import annotations

from torch import Tensor, nn

from qbench.models.initialise import initialise
from qbench.models.residual import BasicBlock, Bottleneck, ResidualBlock, stages
from qbench.nn.blocks import ConvNormAct

_WIDTHS = (64, 128, 256, 512)
_LAYOUTS: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A 7x7 stem with stride 2, max pooling, four stages, a classifier (He et al. 2015, table 1).

    x [N, in_channels, H, W] float, any H, W >= 1 -> logits [N, num_classes].
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        block, counts = _LAYOUTS[depth]
        self.stem = ConvNormAct(in_channels, 64, 7, stride=2, to_trunk=True)
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = stages(block, 64, _WIDTHS, counts)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(512 * block.expansion, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.max_pool(self.stem(x)))).flatten(1))
        return logits


def resnet(*, depth: int, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """torchvision's ResNet of ``depth`` layers; image_size is not used."""
    model = ResNet(depth, num_classes, in_channels)
    initialise(model)
    return model
