"""A plain convolutional network without shortcuts: VGG (Simonyan & Zisserman 2014) in batch norm's time."""

from __future__ import annotations

from torch import Tensor, nn

from qbench.models.initialise import initialise
from qbench.nn.blocks import ConvNormAct
from qbench.options import PositiveInt

STAGES = 3


class ConvNet(nn.Module):
    """Three stages of ``depth`` 3x3 convolutions with width, 2 and 4 times width channels, a classifier.

    Strided convolutions halve the image between stages (Springenberg et al. 2014), and the classifier works on the
    mean over the image. x [N, in_channels, H, W] float, any H, W >= 1 -> logits [N, num_classes].
    """

    def __init__(self, depth: int, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in range(STAGES):
            channels = width * 2**stage
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                layers.append(ConvNormAct(in_channels, channels, 3, stride=stride))
                in_channels = channels
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.classifier(self.pool(self.layers(x)).flatten(1))
        return logits


def convnet(
    *, num_classes: int, in_channels: int, image_size: int, width: PositiveInt = 32, depth: PositiveInt = 2
) -> nn.Module:
    """A plain network. image_size is not used: the classifier works on the mean over the image.

    depth: convolutions per stage. width: channels of the first stage.
    """
    model = ConvNet(depth, width, num_classes, in_channels)
    initialise(model)
    return model
