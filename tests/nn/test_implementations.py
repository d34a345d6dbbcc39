"""Trainings with the plain PyTorch kernels: the same bits as with those that this machine has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from qbench import find_method
from qbench.kernels import backends
from qbench.nn import ConvNormAct, convert
from qbench.optim import build_optimizer
from qbench.train.settings import OptimizerSettings

STEPS = 2
CONFIGURATIONS = [
    ("banner8", {}),
    ("banner8", {"norm": "batch"}),
    ("banner8", {"norm": "batch", "wgrad_error": "fp32"}),
    ("wageubn", {}),
    ("wageubn", {"norm": "batch", "update": "suite"}),
    ("graham", {}),
    ("wage", {"norm": "batch"}),
    ("fixed_point", {}),
    ("sr", {}),
]


class ToOnePixel(nn.Module):
    """Residual blocks that shrink images [N, 3, 4, 4] to one pixel, whose memory layout nothing decides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, channels, 3, stride=2, to_trunk=True)
        self.first = ConvNormAct(channels, channels, 3, stride=2)
        self.second = ConvNormAct(channels, channels, 3, to_trunk=True)
        self.shortcut = ConvNormAct(channels, channels, 1, stride=2, activation=False, to_trunk=True)
        self.third, self.fourth = ConvNormAct(channels, channels, 3), ConvNormAct(channels, channels, 3, to_trunk=True)
        self.last = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.stem(x)
        trunk = self.second(self.first(trunk), self.shortcut(trunk))
        trunk = self.fourth(self.third(trunk), trunk)
        return self.last(trunk.mean((2, 3)))  # type: ignore[no-any-return]


def one_channel() -> nn.Module:
    """For images [N, 1, 4, 4], which are both channels last and channels first."""
    blocks = ConvNormAct(1, 8, 3), ConvNormAct(8, 1, 3), nn.MaxPool2d(3, 1, 1), ConvNormAct(1, 8, 3)
    return nn.Sequential(nn.MaxPool2d(3, 1, 1), *blocks, nn.Flatten(), nn.Linear(8 * 16, 5))


def training(network: nn.Module, method: str, options: dict[str, object], channels: int = 3) -> list[Tensor]:
    """Gradients of some steps, and what is trained. channels: of the images."""
    converted = convert(network, find_method(method).build(options), seed=1)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(lr=0.05, momentum=0.9))
    found = []
    for step in range(1, STEPS + 1):
        converted.clock.step = step
        images = torch.randn(6, channels, 4, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        output = converted.model(images.contiguous(memory_format=torch.channels_last))
        nn.functional.cross_entropy(output, torch.arange(6) % 5).backward()
        found += [p.grad for p in converted.model.parameters() if p.grad is not None]
        optimizer.step()
    return [*found, *converted.model.state_dict().values()]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "one pixel": (lambda: ToOnePixel(8), 3),
    "one pixel and channel": (lambda: ToOnePixel(1), 3),
    "one channel": (one_channel, 1),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("method", "options"), CONFIGURATIONS, ids=str)
def test_images_without_a_layout_train_alike(method: str, options: dict[str, object], name: str) -> None:
    """PyTorch's float norms and convolutions sum in the order that strides tell, also those of one element."""
    build, channels = NETWORKS[name]
    results = []
    for context in (nullcontext(), backends.forced("reference")):
        torch.manual_seed(0)
        with context:
            results.append(training(build(), method, options, channels))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
