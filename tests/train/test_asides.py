"""What a step does past its operators keeps it from being replayed, and the results are those that PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from own_loop import Net, OwnLoop
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from qbench import Recipe, Symmetric
from qbench.train.replay.steps import MAX_FAILURES

PAST = "tells Python what is in a tensor"
SEEDED = "sets the state of PyTorch's random numbers"


def as_list(net: Net, y: Tensor) -> Tensor:
    return y * 2.0 if y.detach().mean().reshape(1).tolist()[0] < 1e9 else y


def as_numpy(net: Net, y: Tensor) -> Tensor:
    return y * 2.0 if y.detach().numpy().mean() < 1e9 else y


def as_array(net: Net, y: Tensor) -> Tensor:
    return y * 2.0 if np.asarray(y.detach()).mean() < 1e9 else y


def element_by_element(net: Net, y: Tensor) -> Tensor:
    return y + y.detach().clone().apply_(lambda value: value * 0.5)


def written_by_numpy(net: Net, y: Tensor) -> Tensor:
    sine = torch.empty_like(y)
    sine.numpy()[...] = np.sin(y.detach().numpy())
    return y + sine


class Sine(torch.autograd.Function):
    """Whose gradient NumPy computes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,), gradient = ctx.saved_tensors, torch.empty_like(grads[0])
        gradient.numpy()[...] = np.cos(x.numpy()) * grads[0].numpy()
        return gradient


def written_by_numpy_backwards(net: Net, y: Tensor) -> Tensor:
    return Sine.apply(y)  # type: ignore[no-any-return, no-untyped-call]


def seeded(net: Net, y: Tensor) -> Tensor:
    torch.manual_seed(3)
    return functional.dropout(y, 0.3)


def forked(net: Net, y: Tensor) -> Tensor:
    """The state is set back behind the only operator that draws."""
    with torch.random.fork_rng():
        return functional.dropout(y, 0.3)


def dropped_and_recomputed(net: Net, y: Tensor) -> Tensor:
    """The backward pass has to drop what the forward pass did."""
    return checkpoint(lambda x: functional.dropout(x.sin(), 0.3).sin(), y, use_reentrant=False)  # type: ignore[no-any-return]


GENERATOR = torch.Generator()


def seeded_of_its_own(net: Net, y: Tensor) -> Tensor:
    GENERATOR.manual_seed(3)
    return y * torch.rand(y.shape, generator=GENERATOR)


@pytest.mark.parametrize("recipe", ["banner8", "fp32"])
@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (as_list, PAST),
        (as_numpy, PAST),
        (as_array, PAST),
        (element_by_element, PAST),
        (written_by_numpy, PAST),
        (written_by_numpy_backwards, PAST),
        (seeded, SEEDED),
        (forked, SEEDED),
        (dropped_and_recomputed, SEEDED),
        (seeded_of_its_own, "draws from a generator of its own"),
    ],
)
def test_what_goes_past_the_operators_is_not_replayed(
    change: Callable[[Net, Tensor], Tensor], refusal: str, recipe: str
) -> None:
    loops = [OwnLoop(change, recipe, replays=replays) for replays in (False, True)]
    outcomes = []
    for loop in loops:
        torch.manual_seed(5)
        outcomes.append([loop.run() for _ in range(2 * MAX_FAILURES + 2)])
    assert refusal in loops[1].refusal and loops[1].replayed == 0
    for a, b in zip(*outcomes, strict=True):
        assert len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("place", ["weight", "activation"])
def test_random_bits_of_every_format_are_those_of_the_step(place: str) -> None:
    """Channels of their own are rounded by a loop that is no operator."""
    stochastic = {
        "weight": Symmetric(8, granularity="channel", rounding="stochastic"),
        "activation": Symmetric(8, rounding="stochastic"),
    }
    recipe = Recipe(**{"weight": Symmetric(8), "activation": Symmetric(8)} | {place: stochastic[place]})
    plain, replayed = (OwnLoop(lambda net, y: y, recipe, replays=replays) for replays in (False, True))
    for _ in range(7):
        assert all(torch.equal(x, y) for x, y in zip(plain.run(), replayed.run(), strict=True))
