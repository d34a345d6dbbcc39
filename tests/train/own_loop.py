"""Steps of models that are nobody's but a test's, run or replayed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from drawn_networks import DrawnNetwork
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from qbench import Recipe, find_method
from qbench.nn import ConvNormAct, convert
from qbench.train.replay import Replay

UNRECORDED = 3
"""The first step notes its codes, the next two are recorded."""


class Net(nn.Module):
    """Two blocks, and ``change`` of what is between them."""

    def __init__(self, change: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = ConvNormAct(3, 8, 3), ConvNormAct(8, 8, 3)
        self.last = nn.Linear(8, 4)
        self.change = change
        self.passes = 0
        self.last_seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.change(self, self.first(x)))
        return self.last(y.mean((2, 3)))  # type: ignore[no-any-return]


class OwnLoop:
    """Steps of one's own model; ``run`` gives the loss and all gradients."""

    def __init__(
        self, network: Callable[[Net, Tensor], Tensor] | nn.Module, recipe: Recipe | str, *, replays: bool
    ) -> None:
        torch.manual_seed(0)
        recipe = find_method(recipe).build({}) if isinstance(recipe, str) else recipe
        self.image = network.image if isinstance(network, DrawnNetwork) else (3, 8, 8)
        network = copy.deepcopy(network) if isinstance(network, nn.Module) else Net(network)
        self.converted = convert(network, recipe)
        self.model = self.converted.model
        self.replay = Replay(self.model, self.converted.clock, self._loss) if replays else None
        self.generator = torch.Generator().manual_seed(1)
        self.step = 0
        self.replayed = 0

    @property
    def refusal(self) -> str:
        """Why no step is replayed; empty where steps are."""
        assert self.replay is not None
        return self.replay.refusal

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self.model(images), labels)

    def batch(self, size: int = 6) -> tuple[Tensor, Tensor]:
        return torch.randn(size, *self.image, generator=self.generator), torch.arange(size) % 4

    def run(self, batch: tuple[Tensor, Tensor] | None = None) -> list[Tensor]:
        self.model.zero_grad(set_to_none=True)
        self.converted.clock.step = self.step
        batch = batch or self.batch()
        loss = self._loss(*batch) if self.replay is None else self.replay.forward(*batch)
        if self.replay is not None and self.replay.gradients is not None:
            self.replayed += 1
            for parameter, gradient in self.replay.gradients:
                assert parameter is not None
                parameter.grad = gradient
        elif self.replay is not None and self.replay.is_recording:
            self.replay.backward(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        self.step += 1
        return [loss.detach(), *(p.grad.clone() for p in self.model.parameters() if p.grad is not None)]


def dropped(net: Net, y: Tensor) -> Tensor:
    return functional.dropout(y, 0.3)


def changed_in_place(net: Net, y: Tensor) -> Tensor:
    z = y.clone()
    z.mul_(0.5)[:, 0] += 1
    return z.transpose(2, 3).contiguous().transpose(2, 3)


def joined(net: Net, y: Tensor) -> Tensor:
    return torch.cat([y[:, :4], torch.stack([y, y * 0.5]).sum(0)[:, 4:]], 1)


def recomputed(net: Net, y: Tensor) -> Tensor:
    return checkpoint(net.second, y, use_reentrant=False)  # type: ignore[no-any-return]


def used_again(net: Net, y: Tensor) -> Tensor:
    return net.second(y)  # type: ignore[no-any-return]


def hooked(net: Net, y: Tensor) -> Tensor:
    z = y * 1.0
    z.register_hook(lambda g: g * 0.5)
    return z
