"""Batches whose gradients one step adds up: each draws random bits of its own."""

from __future__ import annotations

import copy
import warnings
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qbench import Affine, FixedPoint, OnGrid, Recipe, find_method
from qbench.errors import InputError
from qbench.kernels.random import MASK
from qbench.nn import Converted, ConvNormAct, convert
from qbench.nn.clock import Clock
from qbench.optim import build_optimizer
from qbench.optim.clock_watch import MOST_UPDATES, ClockWarning
from qbench.train.settings import OptimizerSettings

RECIPES = {name: find_method(name).build({}) for name in ("banner8", "fixed_point")}
GATHERING = Recipe(weight=FixedPoint(2, 6), update=OnGrid(FixedPoint(2, 6, "stochastic"), batches=2))


class Recomputed(nn.Module):
    """A part whose activations may be made again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(ConvNormAct(3, 8, 3), ConvNormAct(8, 8, 3))
        self.again = False

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.part, x, use_reentrant=False) if self.again else self.part(x)  # type: ignore[no-any-return]


def converted_network(recipe: Recipe) -> Converted:
    torch.manual_seed(0)
    return convert(nn.Sequential(Recomputed(), nn.Flatten(), nn.Linear(8 * 16, 5)), recipe, seed=7)


def gradients(
    recipe: Recipe, step: int, micro_batch: int | None, *, again: bool = False, seed: int = 0
) -> list[Tensor]:
    """Of one backward pass. micro_batch: None where nobody sets it."""
    converted = converted_network(recipe)
    converted.model[0].again = again  # type: ignore[index, union-attr]
    converted.clock.step = step
    if micro_batch is not None:
        converted.clock.micro_batch = micro_batch
    generator = torch.Generator().manual_seed(seed)
    x, labels = torch.randn(6, 3, 4, 4, generator=generator), torch.arange(6) % 5
    nn.functional.cross_entropy(converted.model(x), labels).backward()  # type: ignore[no-untyped-call]
    return [p.grad for p in converted.model.parameters() if p.grad is not None]


def are_equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("name", RECIPES)
def test_each_draws_bits_of_its_own(name: str) -> None:
    recipe = RECIPES[name]
    first = gradients(recipe, 3, 0)
    assert are_equal(first, gradients(recipe, 3, None))
    others = [gradients(recipe, step, micro_batch) for step, micro_batch in ((3, 1), (3, 2), (4, 0), (2, 1), (4, 1))]
    results = [first, *others]
    for place, one in enumerate(results):
        assert not any(are_equal(one, other) for other in results[place + 1 :])
    assert are_equal(others[0], gradients(recipe, 3, 1))


@pytest.mark.parametrize("name", RECIPES)
def test_activations_that_are_made_again_get_the_same_bits(name: str) -> None:
    assert are_equal(gradients(RECIPES[name], 3, 5), gradients(RECIPES[name], 3, 5, again=True))


def test_no_two_have_one_key() -> None:
    """The words of the key, which is all that bits depend on, in steps and micro-batches far from and next to each
    other; in micro-batch 0 it is the key of the step."""
    clock, ends = Clock(seed=1), (0, 1, 2, 255, 256, 257, 65535, 2**23, 2**24 - 2, 2**24 - 1)
    words = set()
    for step, micro_batch in product(ends, (0, 1, 2, 127, 128, 254, 255)):
        clock.step, clock.micro_batch = step, micro_batch
        key = clock.key(9)
        assert micro_batch or key.step == step
        assert 0 <= key.step <= MASK
        words.add(tuple(key.words()))
    assert len(words) == len(ends) * 7


def test_schedules_follow_the_step_alone() -> None:
    clock = Clock(step=50, total_steps=100)
    clock.micro_batch = 3
    assert (clock.step, clock.progress, clock.is_noting) == (50, 0.5, True)
    assert copy.deepcopy(clock).micro_batch == 3


@pytest.mark.parametrize("number", [-1, 256])
def test_a_number_that_no_key_has_room_for_is_refused(number: int) -> None:
    clock = Clock()
    with pytest.raises(InputError, match=f"numbered 0 to 255, not {number}"):
        clock.micro_batch = number
    assert clock.micro_batch == 0


def test_the_mean_over_many_is_nearer_to_the_exact_gradient() -> None:
    """With one sample of noise for all it would be as far from it as each of them."""
    recipe = Recipe(error=Affine(4, "stochastic"))
    exact = torch.cat([g.flatten() for g in gradients(Recipe(), 0, None)])
    found = [torch.cat([g.flatten() for g in gradients(recipe, 0, number)]) for number in range(16)]
    one = sum(float((g - exact).norm()) for g in found) / len(found)
    assert (sum(found[1:], found[0]) / len(found) - exact).norm() < 0.5 * one  # 1/4, were they independent


@pytest.mark.parametrize("numbers", [True, False])
def test_a_rule_that_gathers_is_called_in_each(numbers: bool) -> None:
    """Its calls at one step are no sign of a clock that stands if each of them has bits of its own."""
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), GATHERING)
    optimizer = build_optimizer(converted, GATHERING, OptimizerSettings(lr=0.05))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ClockWarning)
        for number in range(MOST_UPDATES + 3):
            converted.clock.micro_batch = number if numbers else 1
            optimizer.zero_grad()
            converted.model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    assert len(caught) == int(not numbers)
