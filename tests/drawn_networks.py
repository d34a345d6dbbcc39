"""Networks drawn at random: blocks, bare layers and pools in any order, and what people do to activations between."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qbench.nn import Branch, ConvNormAct, LinearNormAct

BATCH = 6
SMALLEST = 2
"""Height and width below which nothing is drawn that makes them smaller."""


class Called(nn.Module):
    """A function of activations as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)


class Residual(nn.Module):
    """Two blocks and the stream around them."""

    def __init__(self, channels: int, inner: int, *, activation: bool, has_mark: bool) -> None:
        super().__init__()
        self.mark = Branch() if has_mark else nn.Identity()
        self.first = ConvNormAct(channels, inner, 3)
        self.second = ConvNormAct(inner, channels, 1, activation=activation, to_trunk=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.mark(x)), x)  # type: ignore[no-any-return]


class Again(nn.Module):
    """One module twice."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return self.part(self.part(x))  # type: ignore[no-any-return]


class Recomputed(nn.Module):
    """A module whose activations are made again in the backward pass."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=False)  # type: ignore[no-any-return]


def changed_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y.mul_(0.5)[:, 0] += 1
    return y


def hooked(x: Tensor) -> Tensor:
    y = x * 1.0
    if y.requires_grad:
        y.register_hook(lambda g: g * 0.5)
    return y


def half_frozen(x: Tensor) -> Tensor:
    return x + 0.1 * x.detach()


def first_half(x: Tensor) -> Tensor:
    return x.chunk(2, 1)[0]


def stacked(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)


FUNCTIONS = (torch.relu, torch.sigmoid, changed_in_place, hooked, half_frozen, first_half)
POOLS = ((2, 2, 0), (3, 2, 1), (3, 1, 1))


def drawn_block(rng: random.Random, channels: int) -> ConvNormAct:
    return ConvNormAct(
        channels, rng.choice((1, 4, 8, 17)), rng.choice((1, 2, 3, 5)), stride=rng.choice((1, 1, 2, 3)),
        activation=rng.random() < 0.8, to_trunk=rng.random() < 0.4,
    )  # fmt: skip


def drawn_layer(rng: random.Random, channels: int) -> nn.Module:
    if rng.random() < 0.5:
        return nn.Conv2d(channels, 8, 3, padding=1, bias=rng.random() < 0.5)
    return nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=channels)


def drawn_part(rng: random.Random, x: Tensor, *, bare_norms: bool) -> nn.Module:
    """Something to do with the activation ``x``."""
    channels, is_small = x.shape[1], min(x.shape[2:]) <= SMALLEST
    kinds: dict[Callable[[], nn.Module], int] = {
        lambda: drawn_block(rng, channels): 6,
        lambda: Residual(channels, 8, activation=rng.random() < 0.8, has_mark=rng.random() < 0.6): 5,
        lambda: Called(rng.choice(FUNCTIONS)): 5,
        lambda: nn.MaxPool2d(*rng.choice(POOLS[2:] if is_small else POOLS)): 3,
        lambda: drawn_layer(rng, channels): 2,
        lambda: nn.AvgPool2d(1 if is_small else 2): 1,
        Branch: 1,
        nn.ReLU: 1,
        lambda: Again(ConvNormAct(channels, channels, 3)): 1,
        lambda: Recomputed(drawn_block(rng, channels)): 1,
        lambda: nn.BatchNorm2d(channels): int(bare_norms),
    }
    return rng.choices(list(kinds), list(kinds.values()))[0]()


class DrawnNetwork(nn.Module):
    """Parts that read any earlier activation, often the last; a classifier that reads some of them.

    x [BATCH, *image] -> [BATCH, 10]. bare_norms: with norms that follow no layer, which some recipes refuse.
    """

    def __init__(self, seed: int, *, bare_norms: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        rng = random.Random(seed)
        self.image = (rng.choice((1, 3, 16)), *[rng.choice((8, 9, 12))] * 2)
        self.parts = nn.ModuleList()
        self.readers: list[list[int]] = []
        values = [torch.randn(BATCH, *self.image)]
        with torch.no_grad():
            for _ in range(rng.randint(3, 8)):
                self._draw(rng, values, bare_norms=bare_norms)
            self.read = [len(values) - 1, *rng.sample(range(1, len(values)), 1)]
            features = self._features(values).shape[1]
        self.hidden = LinearNormAct(features, 16) if rng.random() < 0.5 else nn.Identity()
        self.head = nn.Linear(16 if isinstance(self.hidden, LinearNormAct) else features, 10)
        for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)):
            nn.init.normal_(norm.bias, std=0.3)  # values that are 0 but for roundings would meet a ReLU

    def _draw(self, rng: random.Random, values: list[Tensor], *, bare_norms: bool) -> None:
        first = len(values) - 1 if rng.random() < 0.7 else rng.randrange(len(values))
        function = rng.choice((torch.add, stacked))
        same = 2 if function is stacked else 1  # from this dimension on, shapes have to be equal
        fits = [i for i, value in enumerate(values) if value.shape[same:] == values[first].shape[same:]]
        is_pair = rng.random() < 0.15
        reads = [first, rng.choice(fits)] if is_pair else [first]
        part = Called(function) if is_pair else drawn_part(rng, values[first], bare_norms=bare_norms)
        self.parts.append(part)
        self.readers.append(reads)
        values.append(part(*(values[i] for i in reads)))

    def _features(self, values: list[Tensor]) -> Tensor:
        return torch.cat([values[i].mean((2, 3)) for i in self.read], 1)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for part, reads in zip(self.parts, self.readers, strict=True):
            values.append(part(*(values[i] for i in reads)))
        return self.head(self.hidden(self._features(values)))  # type: ignore[no-any-return]
