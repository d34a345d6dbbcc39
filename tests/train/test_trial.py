"""A tape is tried on the step that it was recorded in."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
from own_loop import UNRECORDED, Net, OwnLoop, changed_in_place, dropped
from torch import Tensor, nn

from qbench.train.replay import steps as steps_module
from qbench.train.replay.steps import MAX_FAILURES
from qbench.train.replay.tape import Tape
from qbench.train.replay.trial import Moment

STEPS = 2 * MAX_FAILURES + 3


def doubled_by_c(y: Tensor, result: Tensor) -> Tensor:
    """The sum of ``y`` with itself in C, which no operator tells of."""
    count = y.numel()
    read, write = ((ctypes.c_float * count).from_address(x.data_ptr()) for x in (y, result))
    write[:] = [2 * value for value in read]
    return result


def into_new_memory(net: Net, y: Tensor) -> Tensor:
    return y + doubled_by_c(y.detach(), torch.empty_like(y))


def into_zeros(net: Net, y: Tensor) -> Tensor:
    return y + doubled_by_c(y.detach(), torch.zeros_like(y))


class Reading(torch.autograd.Function):
    """In whose backward pass C computes."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> Tensor:
        return doubled_by_c(grads[0], torch.empty_like(grads[0]))


def backwards(net: Net, y: Tensor) -> Tensor:
    return Reading.apply(y * 1.0)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize("recipe", ["banner8", "fp32"])
@pytest.mark.parametrize("change", [into_new_memory, into_zeros, backwards])
def test_what_is_no_operator_is_noticed(change: Callable[[Net, Tensor], Tensor], recipe: str) -> None:
    results = []
    for replays in (False, True):
        loop = OwnLoop(change, recipe, replays=replays)
        results.append([loop.run() for _ in range(STEPS)])
    assert loop.refusal == "a replayed step gives something else than the step that was recorded"
    assert loop.replayed == 0
    for a, b in zip(*results, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_an_operator_that_fails_without_autograd_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(tape: Tape, *batch: object) -> object:
        raise RuntimeError("no workspace")

    monkeypatch.setattr(steps_module.NativeTape, "play", failing)
    loop = OwnLoop(changed_in_place, "fp32", replays=True)
    for _ in range(STEPS):
        loop.run()
    assert (loop.refusal, loop.replayed) == ("an operator fails in a replayed step: no workspace", 0)


def test_a_trial_leaves_no_trace() -> None:
    """Not in buffers, gradients, the batch or random numbers."""
    results = []
    for replays in (False, True):
        loop = OwnLoop(dropped, "fp32", replays=replays)
        torch.manual_seed(3)
        outcomes = []
        for _ in range(UNRECORDED):
            images, labels = loop.batch()
            outcomes += [*loop.run((images, labels)), images, labels, torch.get_rng_state()]
            outcomes += [x.clone() for x in loop.model.state_dict().values()]
        results.append(outcomes)
    assert loop.replay is not None and loop.replay.is_settled
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_a_batch_that_is_written_over_is_written_over_once() -> None:
    class Centring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(192, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x.mul_(3).sub_(1).flatten(1))  # type: ignore[no-any-return]

    results = []
    for replays in (False, True):
        torch.manual_seed(0)
        loop, outcomes = OwnLoop(Centring(), "fp32", replays=replays), []
        for _ in range(STEPS):
            images, labels = loop.batch()
            outcomes += [*loop.run((images, labels)), images]
        results.append(outcomes)
    assert loop.replayed == STEPS - UNRECORDED
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_a_moment_comes_back() -> None:
    torch.manual_seed(0)
    tensors = [torch.tensor([1.0, torch.nan, -torch.inf]), torch.ones(1).expand(3), torch.ones(2, dtype=torch.cfloat)]
    moment = Moment(tensors)
    assert moment.is_now()
    expected = torch.rand(3)
    assert not moment.is_now()
    moment.bring_back()
    assert moment.is_now() and torch.equal(torch.rand(3), expected)
    moment.bring_back()
    tensors[0][0] = 2
    assert not moment.is_now()
    moment.bring_back()
    assert moment.is_now() and tensors[0][0] == 1
