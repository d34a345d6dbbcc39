"""ResNets for small images: He et al. (2015), section 4.2, with projection shortcuts where the shape changes."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from qbench.models.initialise import initialise
from qbench.models.residual import BasicBlock, stages
from qbench.nn.blocks import ConvNormAct

LEAST_WIDTH = 8
"""PyTorch 2.13 on a CPU with AVX2 but not AVX-512 gives wrong weight gradients, channels-last, for a 1x1 convolution
with a stride and fewer input channels, as narrower shortcuts are."""


class CifarResNet(nn.Module):
    """A 3x3 stem, three stages of ``blocks`` basic blocks with width, 2 and 4 times width channels, a classifier.

    x [N, in_channels, H, W] float, any H, W >= 1 -> logits [N, num_classes].
    """

    def __init__(self, blocks: int, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = ConvNormAct(in_channels, width, 3, to_trunk=True)
        self.stages = stages(BasicBlock, width, (width, 2 * width, 4 * width), (blocks, blocks, blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.classifier(self.pool(self.stages(self.stem(x))).flatten(1))
        return logits


def cifar_resnet(
    *, depth: int, num_classes: int, in_channels: int, image_size: int, width: Annotated[int, Ge(LEAST_WIDTH)] = 16
) -> nn.Module:
    """The ResNet of ``depth`` = 6n + 2 layers. image_size is not used: the classifier works on the mean over the image.

    width: channels of the first stage.
    """
    assert (depth - 2) % 6 == 0, "the family has 6n + 2 layers"
    model = CifarResNet((depth - 2) // 6, width, num_classes, in_channels)
    initialise(model)
    return model
