"""A small network that a method has trained on, to be evaluated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.nn import Converted, convert
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.deferred import materialised

REMEMBERING = ("banner8", "graham", "wageubn", "binaryconnect", "sr")
"""Methods whose layers keep something from one batch of an evaluation to the next."""


class Net(nn.Module):
    """A residual block, a pooled vector, a linear block and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNormAct(3, 8, 3, to_trunk=True)
        self.branch = Branch()
        self.inner = ConvNormAct(8, 8, 3)
        self.outer = ConvNormAct(8, 8, 3, to_trunk=True)
        self.hidden = LinearNormAct(8, 12)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.first(x)
        y: Tensor = self.outer(self.inner(self.branch(trunk)), trunk)
        logits: Tensor = self.last(self.hidden(y.mean((2, 3))))
        return logits


def images(seed: int = 1) -> Tensor:
    x = torch.randn(64, 3, 7, 6, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def built(method: str, seed: int = 0, options: dict[str, object] | None = None) -> Converted:
    """Trained a few steps' worth of statistics, in evaluation. Its norms' parameters are no powers of two."""
    torch.manual_seed(seed)
    net = Net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias, std=0.3)
    converted = convert(net, find_method(method).build(options or {}), arithmetic="integer")
    converted.clock.total_steps = 10
    with torch.no_grad():
        for step in range(3):
            converted.model.train()(images(step) + seed)
    converted.model.eval()
    return converted


@torch.no_grad()
def evaluated(converted: Converted, x: Tensor | None = None) -> Tensor:
    return materialised(converted.model(images() if x is None else x)).clone()  # type: ignore[no-any-return]
