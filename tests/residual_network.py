"""A residual network and the batches that it is trained on where whole steps are derived a second time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from qbench.nn import Branch, ConvNormAct

BATCH = 32


class ResidualNetwork(nn.Module):
    """A stem, a residual block whose shortcut halves the image, a residual block without one, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = ConvNormAct(1, 8, 3, to_trunk=True)
        self.first, self.second = ConvNormAct(8, 12, 3, stride=2), ConvNormAct(12, 12, 3, to_trunk=True)
        self.shortcut = ConvNormAct(8, 12, 1, stride=2, activation=False, to_trunk=True)
        self.third, self.fourth = ConvNormAct(12, 12, 3), ConvNormAct(12, 12, 3, to_trunk=True)
        self.marks = nn.ModuleList(Branch() for _ in range(2))
        self.classifier = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        branch = self.marks[0](x)
        x = self.second(self.first(branch), self.shortcut(branch))
        x = self.fourth(self.third(self.marks[1](x)), x)
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]


def digit_batches(count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images float32 [BATCH, 1, 8, 8] of mean 0 and deviation 1, and labels."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1)
    images = (images - images.mean()) / images.std()
    labels = torch.from_numpy(digits.target)
    yield from zip(images.split(BATCH)[:count], labels.split(BATCH)[:count], strict=True)
