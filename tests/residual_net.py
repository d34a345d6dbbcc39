"""A small residual network for whole training steps, as qbench's modules and as a walk over a reference's layers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from qbench.models.residual import BasicBlock
from qbench.nn import Converted, ConvNormAct

BATCH = 32


class ResidualNet(nn.Module):
    """A stem, a residual block, one with a 1x1 shortcut of stride 2, the mean over the image, a classifier.

    x [N, 1, 8, 8] float -> logits [N, 10]. The norms' parameters are drawn, so that each counts.
    """

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.stem = ConvNormAct(1, 8, 3, to_trunk=True)
        self.same = BasicBlock(8, 8, 1)
        self.down = BasicBlock(8, 16, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(16, 10, bias=bias)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.down(self.same(self.stem(x)))).flatten(1))
        return logits


class Reference(ABC):
    """What a method's own arithmetic makes of the network's parts; ``name`` is the module's."""

    @abstractmethod
    def normalised(self, x: Tensor, name: str, stride: int) -> Tensor:
        """A convolution and its norm."""

    @abstractmethod
    def classifier(self, x: Tensor, name: str) -> Tensor: ...

    def end(self, y: Tensor, name: str, *, to_trunk: bool) -> Tensor:
        """What a block hands on of ``y``, onto the trunk or within a branch."""
        return y

    def branch(self, x: Tensor, name: str) -> Tensor:
        """What a residual branch and its shortcut read of the trunk."""
        return x

    def block(
        self,
        x: Tensor,
        name: str,
        *,
        stride: int = 1,
        trunk: Tensor | None = None,
        activation: bool = True,
        to_trunk: bool = False,
    ) -> Tensor:
        y = self.normalised(x, name, stride)
        y = y if trunk is None else y + trunk
        return self.end(y.relu() if activation else y, name, to_trunk=to_trunk)


def logits_of(reference: Reference, x: Tensor) -> Tensor:
    """:class:`ResidualNet` with the parts of ``reference``."""
    x = reference.block(x, "stem", to_trunk=True)
    tap = reference.branch(x, "same.branch")
    inner = reference.block(tap, "same.conv1")
    x = reference.block(inner, "same.conv2", trunk=x, to_trunk=True)
    tap = reference.branch(x, "down.branch")
    shortcut = reference.block(tap, "down.projection", stride=2, activation=False, to_trunk=True)
    inner = reference.block(tap, "down.conv1", stride=2)
    x = reference.block(inner, "down.conv2", trunk=shortcut, to_trunk=True)
    return reference.classifier(x.mean((2, 3)), "classifier")


def digit_batches(steps: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Number, images [32, 1, 8, 8] of mean 0 and deviation 1, and labels of each step."""
    digits = load_digits()
    images = torch.tensor(digits.images[:, None], dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    for step in range(steps):
        batch = slice(step * BATCH, (step + 1) * BATCH)
        yield step, images[batch], torch.tensor(digits.target[batch])


def train_step(
    converted: Converted, optimizer: torch.optim.Optimizer, number: int, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The logits before one step of training by the cross entropy, and the loss's gradient there."""
    converted.clock.step = number
    logits = converted.model(images)
    logits.retain_grad()
    optimizer.zero_grad()
    nn.functional.cross_entropy(logits, labels).backward()
    optimizer.step()
    return logits.detach(), logits.grad


def watched(converted: Converted) -> dict[str, Tensor]:
    """Name of a site to the values that were quantised there last, from now on."""
    seen: dict[str, Tensor] = {}
    for site in converted.sites():
        site.watcher = lambda site, quantised, exact: seen.update({site.name: quantised.dequantize()})
    return seen


Map = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    return x


def through(x: Tensor, forward: Map = same, backward: Map = same) -> Tensor:
    """``forward`` of ``x``, whose gradient is ``backward`` of what comes back."""
    y: Tensor = _Through.apply(x, forward, backward)  # type: ignore[no-untyped-call]
    return y


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Map, backward: Map) -> Tensor:
        ctx.map = backward
        return forward(x.detach()).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.map(grads[0]), None, None
