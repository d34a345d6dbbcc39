"""A layer that is used several times in one step: each of its gradients is rounded with random bits of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from arithmetics import both_arithmetics
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qbench import Recipe, Symmetric, find_method
from qbench.nn import Converted, ConvNormAct, convert
from qbench.recipe import Arithmetic

STOCHASTIC_ERRORS = Recipe(error=Symmetric(4, "stochastic"))
RECIPES = {name: find_method(name).build({}) for name in ("banner8", "fixed_point")}
Part = Callable[[Tensor], Tensor]


class Siamese(nn.Module):
    """One part for two inputs. call: how it is called."""

    def __init__(self, call: Callable[[Part, Tensor], Tensor] = lambda part, x: part(x)) -> None:
        super().__init__()
        self.part = nn.Sequential(ConvNormAct(3, 8, 3), ConvNormAct(8, 8, 3))
        self.head = nn.Linear(8, 4)
        self.call = call

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.head(sum(self.call(self.part, x).mean((2, 3)) for x in (one, other)))  # type: ignore[no-any-return]


def converted_network(recipe: Recipe, arithmetic: Arithmetic = "integer", **options: Part) -> Converted:
    torch.manual_seed(0)
    return convert(Siamese(**options), recipe, arithmetic=arithmetic)  # type: ignore[arg-type]


def gradients(converted: Converted) -> list[Tensor]:
    """Of two equal inputs, then of the parameters, in one backward pass at step 3."""
    converted.clock.step = 3
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 3, 6, 6, generator=generator), torch.randn(4, 4, generator=generator)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    return list(torch.autograd.grad((converted.model(*inputs) * weight).sum(), [*inputs, *converted.parameters()]))


def assert_equal(some: list[Tensor], others: list[Tensor]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one, other)


@both_arithmetics
@pytest.mark.parametrize("name", RECIPES)
def test_uses_draw_bits_of_their_own(name: str, arithmetic: Arithmetic) -> None:
    one, other, *_ = gradients(converted_network(RECIPES[name], arithmetic))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", RECIPES)
def test_both_arithmetics_draw_the_same(name: str) -> None:
    assert_equal(*(gradients(converted_network(RECIPES[name], arithmetic)) for arithmetic in ("integer", "simulated")))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECIPES)
def test_backward_passes_of_one_step_draw_the_same(name: str) -> None:
    """And a copy draws as its original, whatever that did before."""
    converted = converted_network(RECIPES[name])
    first = gradients(converted)
    assert_equal(first, gradients(converted))
    assert_equal(first, gradients(copy.deepcopy(converted)))


@pytest.mark.parametrize("name", RECIPES)
def test_a_checkpoint_changes_nothing(name: str) -> None:
    again = converted_network(RECIPES[name], call=lambda part, x: checkpoint(part, x, use_reentrant=False))
    assert_equal(gradients(converted_network(RECIPES[name])), gradients(again))


def test_rounding_errors_average_out_over_uses() -> None:
    """Of many gradients through one layer, all equal: with the same bits their sum would be as far off as each."""
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(16, 16)), STOCHASTIC_ERRORS)
    layer, x, error = converted.model[0], torch.ones(1, 16), torch.linspace(-1, 1, 16)[None]  # type: ignore[index]

    def off(uses: int) -> float:
        """Distance of the mean weight gradient from the exact one."""
        y = sum(layer(x) for _ in range(uses))
        (gradient,) = torch.autograd.grad((y * error).sum(), layer.weight)
        return float((gradient / uses - error.T @ x).norm())

    assert off(64) < 0.3 * off(1)  # 1/8 is to be expected
