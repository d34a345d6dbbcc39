"""A multi-layer perceptron: the fully connected network of the binary and stochastic-rounding papers."""

from itertools import pairwise

from torch import Tensor, nn

from qbench.nn.blocks import LinearNormAct
from qbench.options import PositiveInt


class MLP(nn.Module):
    """``depth`` hidden layers of ``width`` units with batch norm and ReLU, then a linear classifier.

    x [N, C, H, W] float with C * H * W = in_features -> logits [N, num_classes].
    """

    def __init__(self, in_features: int, width: int, depth: int, num_classes: int) -> None:
        super().__init__()
        sizes = [in_features, *[width] * depth]
        self.hidden = nn.Sequential(*(LinearNormAct(a, b) for a, b in pairwise(sizes)))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        logits: Tensor = self.classifier(self.hidden(x.flatten(1)))
        return logits


def mlp(
    *, num_classes: int, in_channels: int, image_size: int, width: PositiveInt = 256, depth: PositiveInt = 2
) -> nn.Module:
    """An MLP.

    depth: hidden layers. width: units of each.
    """
    return MLP(in_channels * image_size**2, width, depth, num_classes)
