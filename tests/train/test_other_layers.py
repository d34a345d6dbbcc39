"""Layers and operators that qbench has no part in: replayed bit for bit, or run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from own_loop import UNRECORDED, Net, OwnLoop
from torch import Tensor, nn
from torch.nn import functional

STEPS = 7
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="the layer is oneDNN's")


class Sequences(nn.Module):
    """Tokens that are drawn from the pixels of a row, embedded, and what ``reader`` makes of them."""

    def __init__(self, reader: nn.Module, **embedding: object) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8, **embedding)  # type: ignore[arg-type]
        self.reader, self.last = reader, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = (x[:, 0, 0].abs() * 9).long() % 20
        read = self.reader(self.embedding(tokens))
        return self.last((read[0] if isinstance(read, tuple) else read)[:, -1])  # type: ignore[no-any-return]


def recurrent(kind: type[nn.RNNBase]) -> Sequences:
    return Sequences(kind(8, 8, num_layers=2, dropout=0.2, batch_first=True))


def attention() -> Sequences:
    return Sequences(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))


def outcomes(network: Callable[[Net, Tensor], Tensor] | nn.Module, recipe: str = "fp32") -> tuple[OwnLoop, bool]:
    """The loop that may replay, and whether it gave the same as the one that may not."""
    loops, results = [OwnLoop(network, recipe, replays=replays) for replays in (False, True)], []
    for loop in loops:
        torch.manual_seed(5)
        results.append([x for _ in range(STEPS) for x in loop.run()])
    pairs = list(zip(*results, strict=True))
    return loops[1], all(torch.equal(x.to_dense(), y.to_dense()) for x, y in pairs)


@pytest.mark.parametrize(
    "network",
    [
        lambda: recurrent(nn.GRU),
        attention,
        lambda: Sequences(nn.Identity(), max_norm=1.0),  # which changes the weight in the forward pass
    ],
)
def test_layers_of_pytorch_are_replayed(network: Callable[[], nn.Module]) -> None:
    loop, is_same = outcomes(network())
    assert is_same and loop.replayed == STEPS - UNRECORDED


@pytest.mark.parametrize(
    ("network", "refusal"),
    [
        pytest.param(lambda: recurrent(nn.LSTM), "gives something else without autograd", marks=needs_onednn),
        (lambda: Sequences(nn.Identity(), sparse=True), "a tensor is torch.sparse_coo"),
    ],
)
def test_layers_that_cannot_be_replayed_are_run(network: Callable[[], nn.Module], refusal: str) -> None:
    loop, is_same = outcomes(network())
    assert is_same and loop.replayed == 0 and refusal in loop.refusal


def in_frequencies(net: Net, y: Tensor) -> Tensor:
    z = torch.fft.rfft2(y)
    return torch.fft.irfft2(z * z.conj(), s=y.shape[-2:])


def imaginary_part(net: Net, y: Tensor) -> Tensor:
    return torch.fft.fft2(y).conj().imag.abs()


def pooled_and_back(net: Net, y: Tensor) -> Tensor:
    z, indices = functional.max_pool2d(y, 2, return_indices=True)
    return functional.max_unpool2d(z, indices, 2)


@pytest.mark.parametrize("recipe", ["banner8", "fp32"])
@pytest.mark.parametrize("change", [in_frequencies, imaginary_part, pooled_and_back])
def test_views_that_are_conjugate_or_negative_are_views_of_their_own(
    change: Callable[[Net, Tensor], Tensor], recipe: str
) -> None:
    loop, is_same = outcomes(change, recipe)
    assert is_same and loop.replayed == STEPS - UNRECORDED


class Helped(nn.Module):
    """A loss of its own in the middle, whose gradients are made in the forward pass; and a tensor that is trained by
    somebody else."""

    def __init__(self, *, has_loss: bool, has_leaf: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.own = nn.Parameter(torch.ones(8, 1, 1))
        self.leaf = torch.ones(8, 1, 1, requires_grad=has_leaf)
        self.has_loss = has_loss

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.first(x) * self.leaf
        if self.has_loss:
            (y.detach() * self.own).square().sum().backward()
        return self.last(y.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "refusal"),
    [
        (Helped(has_loss=True, has_leaf=False), "a parameter gets a gradient before the backward pass"),
        (Helped(has_loss=False, has_leaf=True), "a tensor gets a gradient that is no parameter of a module"),
    ],
)
def test_gradients_that_nobody_is_handed_are_made(network: nn.Module, refusal: str) -> None:
    loops, results = [OwnLoop(network, "fp32", replays=replays) for replays in (False, True)], []
    for loop in loops:
        outcomes = []
        for _ in range(STEPS):
            loop.model.leaf.grad = None
            outcomes += [*loop.run(), loop.model.leaf.grad]
        results.append([x for x in outcomes if x is not None])
    assert (loop.refusal, loop.replayed) == (refusal, 0)
    assert len(results[0]) == len(results[1]) and all(torch.equal(x, y) for x, y in zip(*results, strict=True))
