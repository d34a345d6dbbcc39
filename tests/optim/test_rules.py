"""What all update rules promise as optimisers of PyTorch: closures, saved states, groups."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qbench import FixedPoint, OnGrid, Recipe, find_method
from qbench.nn import Converted, ConvNormAct, convert
from qbench.optim import build_optimizer
from qbench.optim.clock_watch import MOST_UPDATES, ClockWarning
from qbench.optim.wanted import stored_value, wanted_change
from qbench.train.settings import OptimizerSettings

METHODS = ("fp32", "banner8", "wageubn", "graham", "sr", "r", "fixed_point", "binaryconnect", "wage")
FLOAT_WEIGHTS = ("fp32", "banner8", "graham", "binaryconnect")
"""Methods whose weights stay float parameters: their states may be loaded before the optimiser is made."""

OWN_RULES = ("wageubn", "wage")
"""Methods that know no Adam."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(ConvNormAct(3, 8, 3), ConvNormAct(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 5))


def loss_of(converted: Converted, step: int, moves: bool = True) -> Tensor:
    if moves:
        converted.clock.step = step
    generator = torch.Generator().manual_seed(step)
    x, labels = torch.randn(16, 3, 4, 4, generator=generator), torch.randint(5, (16,), generator=generator)
    return nn.functional.cross_entropy(converted.model(x), labels)


def optimizer_of(converted: Converted, name: str = "sgd") -> Optimizer:
    settings = OptimizerSettings(name=name, lr=0.05, weight_decay=1e-3)  # type: ignore[arg-type]
    return build_optimizer(converted, converted.recipe, settings)


def train(converted: Converted, optimizer: Optimizer, steps: range, moves: bool = True) -> dict[str, Tensor]:
    """The state behind ``steps``. moves: whether the clock is set before each."""
    for step in steps:
        optimizer.zero_grad()
        loss_of(converted, step, moves).backward()
        optimizer.step()
    return {name: value.clone() for name, value in converted.model.state_dict().items()}


def recipe_of(method: str) -> Recipe:
    return find_method(method).build({})


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


RESUMED = [
    (method, loads_first, name)
    for method in METHODS
    for loads_first in (False, True)[: 1 + (method in FLOAT_WEIGHTS)]
    for name in ("sgd", "adam")[: 1 + (method not in OWN_RULES)]
]


@pytest.mark.parametrize(("method", "loads_first", "name"), RESUMED)
def test_training_goes_on_from_saved_states(method: str, loads_first: bool, name: str) -> None:
    whole = convert(network(), recipe_of(method))
    expected = train(whole, optimizer_of(whole, name), range(6))

    first = convert(network(), recipe_of(method))
    optimizer = optimizer_of(first, name)
    model_state = train(first, optimizer, range(3))
    optimizer_state: dict[str, Any] = optimizer.state_dict()

    resumed = convert(network(), recipe_of(method))
    if loads_first:
        resumed.model.load_state_dict(model_state)
    again = optimizer_of(resumed, name)
    if not loads_first:
        resumed.model.load_state_dict(model_state)
    again.load_state_dict(optimizer_state)
    assert_same(train(resumed, again, range(3, 6)), expected)


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("method", METHODS)
def test_copies_of_model_and_optimizer_train_as_the_originals(method: str, copy_of: Callable[[Any], Any]) -> None:
    """A scheduler ties itself to the optimiser that it was made for; the copy's steps are its own all the same."""
    converted = convert(network(), recipe_of(method))
    optimizer = optimizer_of(converted)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    train(converted, optimizer, range(2))
    copied, its_optimizer = copy_of((converted, optimizer))
    optimizer.load_state_dict(optimizer.state_dict())
    expected = train(converted, optimizer, range(2, 5))
    before = {name: value.clone() for name, value in expected.items()}
    assert_same(train(copied, its_optimizer, range(2, 5)), expected)
    assert_same(converted.model.state_dict(), before)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(FLOAT_WEIGHTS)))
def test_states_of_codes_and_of_floats_are_not_mixed_up(method: str) -> None:
    fresh, built = convert(network(), recipe_of(method)), convert(network(), recipe_of(method))
    optimizer_of(built)
    floats, codes = fresh.model.state_dict(), built.model.state_dict()
    with pytest.raises(RuntimeError, match=r"1\.conv\.weight is codes in this state: make the optimizer before"):
        fresh.model.load_state_dict(codes)
    with pytest.raises(RuntimeError, match=r"1\.conv\.weight is floats in this state .* before making the optimizer"):
        built.model.load_state_dict(floats)


@pytest.mark.parametrize(
    ("saved", "options"),
    [
        ("sr", {"grid": "binary"}),
        ("sr", {"fraction_bits": 5}),
        ("fixed_point", {}),
        ("wageubn", {"first_last": "quantized"}),
    ],
)
def test_states_of_codes_on_another_grid_are_refused(saved: str, options: dict[str, Any]) -> None:
    """The update rule would take them for codes of its own grid."""
    converted, other = convert(network(), recipe_of("sr")), convert(network(), find_method(saved).build(options))
    for one in (converted, other):
        optimizer_of(one)
    before = {name: value.clone() for name, value in converted.model.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"1\.conv\.weight is codes of another grid in this state"):
        converted.model.load_state_dict(other.model.state_dict())
    codes = [name for name in before if name.endswith("weight_codes")]
    assert_same({name: converted.model.state_dict()[name] for name in codes}, {name: before[name] for name in codes})


@pytest.mark.parametrize(
    ("method", "options"), [*((method, {}) for method in METHODS), ("wage", {"gradient_bits": 32})]
)
def test_another_optimizer_takes_the_weights_as_they_are(method: str, options: dict[str, Any]) -> None:
    """As a training in two phases makes one; the first one's start was made once more, of weights that were NaN."""
    converted = convert(network(), find_method(method).build(options))
    before = train(converted, optimizer_of(converted), range(2))
    second = optimizer_of(converted)
    assert_same(converted.model.state_dict(), before)
    assert all(value.isfinite().all() for value in train(converted, second, range(2, 4)).values())


@pytest.mark.parametrize("method", METHODS)
def test_steps_take_closures(method: str) -> None:
    def run(*, with_closure: bool) -> dict[str, Tensor]:
        converted = convert(network(), recipe_of(method))
        optimizer = optimizer_of(converted)
        if not with_closure:
            return train(converted, optimizer, range(2))
        for step in range(2):

            def closure(step: int = step) -> Tensor:
                optimizer.zero_grad()
                loss = loss_of(converted, step)
                loss.backward()
                return loss

            assert optimizer.step(closure) > 0  # type: ignore[arg-type,operator]
        return converted.model.state_dict()

    assert_same(run(with_closure=True), run(with_closure=False))


WANTED = [
    (method, options, name, noise)
    for method, options, noise in (
        ("fp32", {}, 1e-6), ("banner8", {}, 1e-6), ("sr", {"grid": "fixed"}, 0.04), ("wageubn", {}, 1e-5),
        ("wage", {}, 0.04),
    )
    for name in ("sgd", "adam")[: 1 + (method not in OWN_RULES)]
]  # fmt: skip
"""noise: what unbiased rounding to the method's grid may add to the share of the wanted change that is made."""


@pytest.mark.parametrize(("method", "options", "name", "noise"), WANTED)
def test_the_wanted_change_is_made_but_for_rounding(
    method: str, options: dict[str, Any], name: str, noise: float
) -> None:
    """By all weights together, at first and with what the rule remembers of earlier steps."""
    converted = convert(network(), find_method(method).build(options))
    settings = OptimizerSettings(name=name, lr=0.01 if name == "adam" else 0.5, weight_decay=1e-2)  # type: ignore[arg-type]
    optimizer = build_optimizer(converted, converted.recipe, settings)
    layers = [layer for _, layer in converted.layers()]
    for step in range(4):
        optimizer.zero_grad()
        loss_of(converted, step).backward()
        wanted = torch.cat([wanted_change(optimizer, layer).flatten() for layer in layers])
        before = [stored_value(layer).double() for layer in layers]
        optimizer.step()
        made = torch.cat([(stored_value(a) - b).flatten() for a, b in zip(layers, before, strict=True)])
        assert float(made @ wanted / (wanted @ wanted)) == pytest.approx(1, abs=noise)


class OwnLinear(nn.Linear):
    """A layer that conversion leaves as it is."""


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_not_converted_is_trained_in_float(method: str) -> None:
    model = network()
    model.append(OwnLinear(5, 5))
    converted = convert(model, recipe_of(method))
    own, optimizer = converted.model[-1], optimizer_of(converted)  # type: ignore[index]
    before = own.weight.clone()
    train(converted, optimizer, range(1))
    assert isinstance(own, OwnLinear) and own.weight.dtype == torch.float32
    assert not torch.equal(own.weight, before)


@pytest.mark.parametrize("method", ["wageubn", "sr", "r", "wage"])
def test_parameters_that_no_rule_knows_are_refused(method: str) -> None:
    optimizer = optimizer_of(convert(network(), recipe_of(method)))
    with pytest.raises(ValueError, match="give others an optimiser of their own"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("method", METHODS)
def test_a_graph_of_old_weights_is_refused_or_gives_the_old_gradient(method: str, name: str) -> None:
    """PyTorch's own check of what a graph keeps sees every update, those of its fused optimisers too."""
    if name == "adam" and method in OWN_RULES:
        pytest.skip("the rule knows no Adam")
    converted = convert(network(), recipe_of(method))
    optimizer = optimizer_of(converted, name)
    x = torch.randn(16, 3, 4, 4, requires_grad=True)
    y = converted.model(x).square().sum()
    y.backward(retain_graph=True)
    assert x.grad is not None
    expected, x.grad = x.grad, None
    optimizer.step()
    try:
        y.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017 - or nothing is raised
    else:
        assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_clock_that_stands_is_reported_where_the_weights_depend_on_it(method: str) -> None:
    states, reports = [], []
    for moves in (True, False):
        converted = convert(network(), recipe_of(method))
        optimizer = optimizer_of(converted)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ClockWarning)
            states.append(train(converted, optimizer, range(MOST_UPDATES + 3), moves))
        reports.append([w for w in caught if w.category is ClockWarning])
    follows_clock = any(not torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert [len(found) for found in reports] == [0, int(follows_clock)]
    assert all(found.filename == __file__ for found in reports[1])


def test_updates_that_are_taken_back_are_not_reported() -> None:
    """A probe makes one beside the step's own."""
    converted = convert(network(), recipe_of("banner8"))
    optimizer = optimizer_of(converted)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ClockWarning)
        for step in range(2 * MOST_UPDATES):
            for _ in range(MOST_UPDATES):
                train(converted, optimizer, range(step, step + 1))


@pytest.mark.parametrize("method", METHODS)
def test_weights_alone_are_decayed(method: str) -> None:
    """With gradients of 0 and without momentum, biases and the norms' parameters stay where they are."""
    converted = convert(network(), recipe_of(method))
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view(parameter.shape))
    settings = OptimizerSettings(lr=0.05, momentum=0.0, weight_decay=0.5)
    optimizer = build_optimizer(converted, converted.recipe, settings)
    vectors = {name: p.detach().clone() for name, p in converted.model.named_parameters() if p.dim() == 1}
    assert vectors
    for parameter in converted.model.parameters():
        parameter.grad = torch.zeros(parameter.shape)
    optimizer.step()
    moved = [name for name, p in converted.model.named_parameters() if name in vectors and not p.equal(vectors[name])]
    assert moved == []


def test_adam_is_the_suites() -> None:
    """Both of its factors: the second moment after one step is (1 - beta2) times the gradient squared."""
    converted = convert(network(), Recipe())
    settings = OptimizerSettings(name="adam", lr=0.05, momentum=0.75, beta2=0.5)
    optimizer = build_optimizer(converted, converted.recipe, settings)
    first = next(converted.parameters())
    first.grad = torch.full_like(first, 2.0)
    optimizer.step()
    assert torch.equal(optimizer.state[first]["exp_avg"], torch.full_like(first, 0.5))
    assert torch.equal(optimizer.state[first]["exp_avg_sq"], torch.full_like(first, 2.0))


def test_a_step_leaves_parameters_without_a_gradient_alone() -> None:
    """The backward pass may need them still: they are neither clipped nor counted as changed."""
    converted = convert(network(), recipe_of("binaryconnect"))
    optimizer = optimizer_of(converted)
    moved, kept = [p for p in converted.parameters() if p.dim() == 4]
    with torch.no_grad():
        kept.fill_(3.0)
    version, moved.grad = kept._version, torch.ones_like(moved)
    optimizer.step()
    assert kept._version == version
    assert bool((kept == 3.0).all())
    assert float(moved.detach().abs().max()) <= 1.0


def test_a_weight_of_zeros_is_not_spread_out() -> None:
    model = network()
    model[0].conv.weight.data.zero_()  # type: ignore[union-attr,operator]
    converted = convert(model, recipe_of("binaryconnect"))
    optimizer_of(converted)
    assert all(bool(p.isfinite().all()) for p in converted.parameters())


def test_random_bits_of_biases_alone_follow_the_clock_too() -> None:
    recipe = Recipe(update=OnGrid(FixedPoint(2, 6), others=FixedPoint(2, 6, "stochastic")))
    converted = convert(network(), recipe)
    optimizer = optimizer_of(converted)
    with pytest.warns(ClockWarning):
        train(converted, optimizer, range(MOST_UPDATES + 1), moves=False)
