"""R, SR and big-batch SR (Li, De, Xu, Studer, Samet, Goldstein 2017, arXiv:1706.02379): the update rules in float64 and
laws derived from them."""

from __future__ import annotations

from itertools import pairwise
from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.clock import tensor_id
from qbench.nn.layers import QuantizedLayer
from qbench.optim import build_optimizer
from qbench.quant.formats import FixedPoint
from qbench.recipe import OnGrid, Recipe
from qbench.train.settings import OptimizerSettings

Array = NDArray[np.float64]


def sgd(lr: float) -> OptimizerSettings:
    return OptimizerSettings(name="sgd", lr=lr, momentum=0.0)


def layer_of(recipe: Recipe, rows: int, columns: int) -> tuple[Converted, QuantizedLayer]:
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(columns, rows, bias=False)), recipe, seed=3)
    layer = converted.model[0]  # type: ignore[index]
    assert isinstance(layer, QuantizedLayer)
    return converted, layer


def values(layer: QuantizedLayer) -> Tensor:
    assert layer.master is not None
    return layer.master.dequantize()


def drawn(step: int) -> Array:
    """What the update of layer ``0`` draws."""
    return uniforms((20, 30), Key(3, tensor_id("0/update"), step))


@pytest.mark.parametrize("name", ["r", "sr"])
@pytest.mark.parametrize("grid", ["fixed", "binary"])
def test_update_rules(name: str, grid: str) -> None:
    """Eq. 4 and 5: w <- Q(w - step), Q(w) = spacing * floor(w / spacing + 1/2) or at random, and for a binary grid the
    sign, or +1 with probability (clip(w, -1, 1) + 1) / 2. Bit for bit: nothing rounds with these rates."""
    recipe = find_method(name).build({"grid": grid})
    converted, layer = layer_of(recipe, 20, 30)
    optimizer = build_optimizer(converted, recipe, sgd(0.125))
    w = values(layer).double().numpy()
    for step in range(8):
        converted.clock.step = step
        gradient = torch.randint(-200, 201, (20, 30), generator=torch.Generator().manual_seed(step)) / 64
        layer.weight.grad = gradient
        optimizer.step()
        moved = w - 0.125 * gradient.double().numpy()
        if grid == "binary":
            up = drawn(step) < (np.clip(moved, -1, 1) + 1) / 2 if name == "sr" else moved >= 0
            w = np.where(up, 1.0, -1.0)
        else:
            spacing = 2.0**-6
            fraction = moved / spacing - np.floor(moved / spacing)
            up = drawn(step) < fraction if name == "sr" else fraction >= 0.5
            w = np.clip(spacing * (np.floor(moved / spacing) + up), -2, 2 - spacing)
        assert np.array_equal(values(layer).double().numpy(), w), step


def test_floor_of_stochastic_rounding_on_a_quadratic() -> None:
    """F = (w - 0.3)^2 / 2, spacing 1/2, gradient noise N(0, 1): for a small step size E[F - F*] = (spacing / 4) E|g| =
    0.11018 (derived; both sides worked out for this chain). 2,048 chains, averaged over the second half of 600 steps;
    0.005 covers the chains' scatter and the step size 0.1."""
    recipe = Recipe(weight=FixedPoint(4, 1), update=OnGrid(FixedPoint(4, 1, "stochastic")))
    converted, layer = layer_of(recipe, 2048, 1)
    optimizer = build_optimizer(converted, recipe, sgd(0.1))
    generator = torch.Generator().manual_seed(1)
    losses, sizes = [], []
    for step in range(600):
        converted.clock.step = step
        w = values(layer)
        gradient = w - 0.3 + torch.randn(w.shape, generator=generator)
        if step >= 300:
            losses.append(float((w - 0.3).square().mean()) / 2)
            sizes.append(float(gradient.abs().mean()))
        layer.weight.grad = gradient
        optimizer.step()
    assert float(np.mean(losses)) == pytest.approx(0.11018, abs=0.005)
    assert float(np.mean(sizes)) * 0.5 / 4 == pytest.approx(0.11018, abs=0.005)


FLIPS = {391: 0.430, 782: 0.490, 1173: 0.499}
"""Share of changed weights after 1, 2 and 3 epochs of 391 steps (derived: (1 - (1 - 2 f)^t) / 2, f = lr / 4)."""


@pytest.mark.slow
def test_random_walk_of_binary_weights() -> None:
    """Steps of 0.01 in random directions, as Adam's are under pure noise; 5 standard errors of 8,192 weights."""
    recipe = find_method("sr").build({"grid": "binary"})
    converted, layer = layer_of(recipe, 64, 128)
    optimizer = build_optimizer(converted, recipe, sgd(0.01))
    start = values(layer)
    generator = torch.Generator().manual_seed(0)
    for step in range(max(FLIPS)):
        converted.clock.step = step
        layer.weight.grad = torch.randint(0, 2, start.shape, generator=generator).float() * 2 - 1
        optimizer.step()
        if step + 1 in FLIPS:
            changed = float((values(layer) != start).float().mean())
            assert changed == pytest.approx(FLIPS[step + 1], abs=5 * 0.5 / 8192**0.5), step


def test_rounding_to_nearest_never_flips_a_binary_weight() -> None:
    """With +-1 weights a step below 1 against the sign is always lost: R trains only what is float."""
    recipe = find_method("r").build({"grid": "binary"})
    converted, layer = layer_of(recipe, 30, 30)
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="adam", lr=0.01))
    start = values(layer)
    for step in range(50):
        converted.clock.step = step
        layer.weight.grad = start.clone()
        optimizer.step()
    assert torch.equal(values(layer), start)


@pytest.mark.parametrize("settings", [sgd(0.125), OptimizerSettings(name="adam", lr=0.01)], ids=["sgd", "adam"])
def test_big_batch_is_one_step_with_the_mean_gradient(settings: OptimizerSettings) -> None:
    """Four batches gathered, against one step with their mean at the step that completes them; for all parameters."""
    results = []
    for batches in (4, 1):
        recipe = find_method("sr").build({"batches": batches})
        torch.manual_seed(0)
        converted = convert(nn.Sequential(nn.Linear(6, 5)), recipe, seed=3)
        layer = converted.model[0]  # type: ignore[index]
        optimizer = build_optimizer(converted, recipe, settings)
        generator = torch.Generator().manual_seed(2)
        for big in range(3):
            gradients = [
                [torch.randint(-64, 65, shape, generator=generator) / 64 for shape in ((5, 6), (5,))] for _ in range(4)
            ]
            if batches == 1:
                gradients = [[sum(g[i] for g in gradients) / 4 for i in range(2)]]  # type: ignore[misc]
            for number, (for_weight, for_bias) in enumerate(gradients):
                converted.clock.step = big * 4 + (number if batches == 4 else 3)
                before = values(layer), layer.bias.detach().clone()  # type: ignore[arg-type,union-attr,operator]
                layer.weight.grad, layer.bias.grad = for_weight, for_bias  # type: ignore[union-attr]
                optimizer.step()
                if number < len(gradients) - 1:
                    assert torch.equal(values(layer), before[0])  # type: ignore[arg-type]
                    assert torch.equal(layer.bias, before[1])  # type: ignore[arg-type]
        results.append((values(layer), layer.bias.detach().clone()))  # type: ignore[arg-type,union-attr,operator]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_gathered_gradients_survive_a_state_dict() -> None:
    recipe = find_method("sr").build({"batches": 3})
    states = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        converted = convert(nn.Sequential(nn.Linear(6, 5)), recipe, seed=3)
        optimizer = build_optimizer(converted, recipe, sgd(0.5))
        for step in range(6):
            converted.clock.step = step
            generator = torch.Generator().manual_seed(step)
            for parameter in converted.model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
            if interrupted and step == 3:
                saved, kept = optimizer.state_dict(), converted.model.state_dict()
                optimizer = build_optimizer(converted, recipe, sgd(0.5))
                optimizer.load_state_dict(saved)
                converted.model.load_state_dict(kept)
        states.append({name: tensor.clone() for name, tensor in converted.model.state_dict().items()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("batches", [1, 16])
def test_big_batches_lower_the_floor(batches: int) -> None:
    """16 batches cut the noise in the gradient of that quadratic by 4, and with it the floor, (spacing / 4) E|g|."""
    recipe = Recipe(weight=FixedPoint(4, 1), update=OnGrid(FixedPoint(4, 1, "stochastic"), batches))
    converted, layer = layer_of(recipe, 1024, 1)
    optimizer = build_optimizer(converted, recipe, sgd(0.2))
    generator = torch.Generator().manual_seed(1)
    losses = []
    steps = 200 * batches
    for step in range(steps):
        converted.clock.step = step
        w = values(layer)
        layer.weight.grad = w - 0.3 + torch.randn(w.shape, generator=generator)
        optimizer.step()
        if step >= steps // 2:
            losses.append(float((w - 0.3).square().mean()) / 2)
    floor = floor_by_detailed_balance(np.arange(-4, 6) / 2, 1 / batches**0.5)
    # 1,024 chains over 100 updates; the law is that of a vanishing step size, this one is 0.2.
    assert float(np.mean(losses)) == pytest.approx(floor, rel=0.12)


def floor_by_detailed_balance(grid: Array, noise: float) -> float:
    """E[F - F*] under pi(x) up(x) = pi(x + spacing) down(x + spacing), up = E[(-g)+], down = E[(g)+]."""

    def positive(mean: float) -> float:
        z = mean / noise
        return noise * exp(-z * z / 2) / sqrt(2 * pi) + mean * (1 + erf(z / sqrt(2))) / 2

    law = [1.0]
    for left, right in pairwise(grid):
        law.append(law[-1] * positive(0.3 - left) / positive(right - 0.3))
    weights = np.array(law) / sum(law)
    return float((weights * (grid - 0.3) ** 2 / 2).sum())


def test_detailed_balance_gives_the_known_floor() -> None:
    """0.11018 for unit noise (derived)."""
    assert floor_by_detailed_balance(np.arange(-8, 10) / 2, 1.0) == pytest.approx(0.11018, abs=5e-6)
