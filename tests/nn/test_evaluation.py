"""Evaluation: fused blocks against their modules, and that what is remembered between batches follows every change."""

from __future__ import annotations

import copy
from typing import Any, Literal, cast

import pytest
import torch
from arithmetics import both_arithmetics
from fused_models import unfuse
from torch import Tensor, nn
from torch.nn import functional

from qbench import Recipe, Symmetric
from qbench.catalog import find_method
from qbench.kernels.constants import constant
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.base import rows_of
from qbench.nn.remembered import Remembered
from qbench.nn.site import Site
from qbench.optim import build_optimizer
from qbench.quant.levels import decision_points, level_table
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic
from qbench.train.settings import OptimizerSettings

WIDE = {"bits": 16, "normalised_bits": 16}
FUSED = ("graham", "wageubn")
"""Methods whose blocks evaluate as their modules do, bit for bit; banner8's round the norm once instead of thrice."""

REMEMBERING = ("banner8", "graham", "wageubn", "binaryconnect", "sr")


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


def unfused(converted: Converted) -> Converted:
    unfuse(converted.model)
    return converted


@pytest.mark.parametrize(("method", "options"), [*((method, {}) for method in FUSED), ("wageubn", WIDE)], ids=str)
def test_fused_blocks_evaluate_as_their_modules(method: str, options: dict[str, object]) -> None:
    fused = built(method, options=options)
    with torch.no_grad():
        assert isinstance(fused.model.first(images()), Deferred)  # type: ignore[operator]
    assert torch.equal(evaluated(fused), evaluated(unfused(built(method, options=options))))


@pytest.mark.parametrize("method", FUSED)
def test_channels_that_never_varied_evaluate_as_in_the_modules(method: str) -> None:
    fused, modules = built(method), unfused(built(method))
    for converted in (fused, modules):
        for name, buffer in converted.model.named_buffers():
            if name.endswith("running_scale"):
                buffer.zero_()
    expected = evaluated(modules)
    assert expected.isfinite().all() and torch.equal(evaluated(fused), expected)


@pytest.mark.parametrize("method", FUSED)
def test_watchers_are_shown_the_floats(method: str) -> None:
    converted, seen = built(method), set[str]()

    def watch(site: Site, q: QTensor, exact: Tensor) -> None:
        assert q.codes.shape == exact.shape
        seen.add(site.name)

    expected = evaluated(converted)
    for site in converted.sites():
        site.watcher = watch
    assert torch.equal(evaluated(converted), expected)
    backward = ("error", "gradient")
    forward = {site.name for site in converted.sites() if not site.name.endswith(backward)}
    assert seen == forward and forward


@pytest.mark.parametrize("method", [*FUSED, "banner8"])
def test_watchers_of_a_training_step_are_shown_what_the_modules_compute(method: str) -> None:
    """All tensors but for a code here and there, because statistics are summed in another precision."""

    def shown(converted: Converted) -> dict[str, tuple[Tensor, ...]]:
        seen = dict[str, tuple[Tensor, ...]]()

        def watch(site: Site, q: QTensor, exact: Tensor) -> None:
            values = q.dequantize(), exact.detach()
            seen[site.name] = tuple((rows_of(x) if x.dim() > 1 else x).clone() for x in values)

        for site in converted.sites():
            site.watcher = watch
        functional.cross_entropy(converted.model.train()(images()), torch.arange(64) % 5).backward()
        return seen

    found, expected = shown(built(method)), shown(unfused(built(method)))
    unrounded = {f"{e.layer}/{e.path}" for e in built(method).manifest() if e.declared.startswith("line of")}
    assert found.keys() == expected.keys() - unrounded
    for name, tensors in found.items():
        for one, other in zip(tensors, expected[name], strict=True):
            assert (one - other).norm() <= 0.02 * other.norm() + 1e-6, name


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_with_gradients_differs_in_no_more_than_roundings(method: str) -> None:
    converted = built(method)
    found, expected = evaluated(converted), materialised(converted.model(images())).detach()
    # banner8 rounds its norm's line once in one of them, so a code may lie one step of 1/255 of its range apart.
    assert (found - expected).norm() <= (0.02 if method == "banner8" else 1e-6) * expected.norm()


@pytest.mark.parametrize("method", REMEMBERING)
def test_nan_is_not_hidden(method: str) -> None:
    converted, x = built(method), images()
    x[3, 1, 2, 2] = torch.nan
    assert evaluated(converted, x)[3].isnan().all()
    assert evaluated(converted).isfinite().all()


@pytest.mark.parametrize("layer", ["first.conv", "inner.conv", "outer.conv", "hidden.linear", "last"])
def test_nan_in_a_weight_is_not_hidden(layer: str) -> None:
    converted = built("banner8")
    assert evaluated(converted).isfinite().all()
    with torch.no_grad():
        converted.model.get_submodule(layer).weight[1, 1] = torch.nan  # type: ignore[union-attr,operator]
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("norm", ["first.norm", "inner.norm", "outer.norm", "hidden.norm"])
def test_nan_in_a_norm_is_not_hidden(norm: str, parameter: str) -> None:
    converted = built("banner8")
    with torch.no_grad():
        getattr(converted.model.get_submodule(norm), parameter)[3] = torch.nan
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("statistic", ["running_mean", "running_scale"])
@pytest.mark.parametrize("norm", ["first.norm", "inner.norm", "outer.norm", "hidden.norm"])
@pytest.mark.parametrize("method", [*FUSED, "banner8"])
def test_nan_in_running_statistics_is_not_hidden(method: str, norm: str, statistic: str) -> None:
    """As a step leaves it there that met an infinity."""
    converted = built(method)
    getattr(converted.model.get_submodule(norm), statistic)[3] = torch.nan
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_loaded_weights(method: str) -> None:
    converted, other = built(method), built(method, seed=1)
    before = evaluated(converted)
    converted.model.load_state_dict(other.model.state_dict())
    assert torch.equal(evaluated(converted), evaluated(other))
    assert not torch.equal(evaluated(converted), before)


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_training(method: str) -> None:
    """Also where the update is one that PyTorch does not see."""
    converted = built(method)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd", lr=0.5))
    before = evaluated(converted)
    converted.model.train()
    materialised(converted.model(images(4))).square().sum().backward()
    optimizer.step()
    for parameter in converted.model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.25)
    converted.model.eval()
    after = evaluated(converted)
    assert not torch.equal(after, before)
    assert torch.equal(after, evaluated(fresh(converted)))


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_weights_that_are_exchanged_for_others(method: str) -> None:
    """As averages of them are, between two evaluations: nothing counts what happens to ``data``."""
    converted = built(method)
    before = evaluated(converted)
    for parameter in converted.parameters():
        parameter.data.mul_(0.5).add_(0.01)
    converted.model.eval()
    after = evaluated(converted)
    assert not torch.equal(after, before)
    assert torch.equal(after, evaluated(fresh(converted)))


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_updates_in_evaluation_mode(method: str, name: Literal["sgd", "adam"]) -> None:
    """PyTorch's fused rules change parameters without counting it."""
    converted = built(method)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name=name, lr=0.5))
    before = evaluated(converted)
    materialised(converted.model(images(4))).square().sum().backward()
    optimizer.step()
    after = evaluated(converted)
    assert not torch.equal(after, before)
    assert torch.equal(after, evaluated(fresh(converted)))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("method", REMEMBERING)
def test_training_in_evaluation_mode_follows_every_step(method: str, own: bool) -> None:
    """PyTorch's fused optimisers change weights without counting it."""
    if own and method in ("wageubn", "sr"):
        pytest.skip("the weights have an update rule of their own")
    losses, lr = [], 1e-7 if method == "binaryconnect" else 0.05  # whose rates grow with its layers
    for forgets in (False, True):
        converted = built(method)
        if own:
            optimizer: torch.optim.Optimizer = torch.optim.SGD(converted.parameters(), lr, fused=True)
        else:
            optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(lr=lr))
        for _ in range(3):
            loss = materialised((fresh(converted) if forgets else converted).model(images())).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        losses.append(evaluated(fresh(converted) if forgets else converted).square().mean().item())
    assert losses[:4] == losses[4:] and losses[3] < losses[2] < losses[1] < losses[0]


def fresh(converted: Converted) -> Converted:
    """The same, as if it had evaluated nothing yet."""
    for module in converted.model.modules():
        for owner in (module, *(getattr(module, name, None) for name in ("fused", "levels", "direct"))):
            if hasattr(owner, "_evaluated"):
                owner._evaluated.forget()  # type: ignore[union-attr]
    return converted


def test_a_value_is_made_once_for_the_same_tensors() -> None:
    made: list[float] = []
    source, remembered = torch.ones(2), Remembered[float]()

    def total() -> float:
        made.append(float(source.sum()))
        return made[-1]

    assert [remembered.get([source], total) for _ in range(3)] == [2.0] * 3
    source.add_(1)
    assert remembered.get([source], total) == 4.0
    remembered.forget()
    assert remembered.get([source], total) == 4.0
    assert made == [2.0, 4.0, 4.0]


def test_nothing_is_remembered_behind_a_step_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replays change weights unseen."""
    source, remembered = torch.ones(2), Remembered[float]()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        remembered.forget()
    assert remembered.get([source], lambda: float(source.sum())) == 2.0
    source.data.add_(1)
    assert remembered.get([source], lambda: float(source.sum())) == 4.0


def test_another_tensor_in_the_same_memory_is_another() -> None:
    remembered, memory = Remembered[float](), bytearray(8)
    for number in range(3):
        torch.frombuffer(memory, dtype=torch.float32).fill_(number)
        source = torch.frombuffer(memory, dtype=torch.float32)
        assert remembered.get([source], source.mean().item) == number


@pytest.mark.parametrize("method", [method for method in REMEMBERING if method != "sr"])
def test_evaluation_follows_parameters_that_are_lent(method: str) -> None:
    converted, fitting = built(method), built(method)
    for number in range(10):
        lent = {name: p.detach() * (1 + number) for name, p in converted.model.named_parameters()}
        with torch.no_grad():
            found = torch.func.functional_call(converted.model, lent, images())
            for name, parameter in fitting.model.named_parameters():
                parameter.copy_(lent[name])
        assert torch.equal(found, evaluated(fitting))
        del lent


def test_tensors_that_count_no_changes_are_read_every_time() -> None:
    with torch.inference_mode():
        source = torch.ones(2)
        remembered = Remembered[float]()
        assert remembered.get([source], lambda: float(source.sum())) == 2.0
        source.add_(1)
        assert remembered.get([source], lambda: float(source.sum())) == 4.0


# --- gradients in evaluation, and inference mode


METHODS = ("fp32", "banner8", "wageubn", "graham", "fixed_point", "sr", "binaryconnect", "wage")


def gradients(converted: Converted) -> list[Tensor]:
    """Of the input and of every parameter."""
    x = images().requires_grad_()
    y = materialised(converted.model(x))
    parameters = list(converted.model.parameters())
    y.square().sum().backward()
    assert x.grad is not None
    return [x.grad, *(parameter.grad for parameter in parameters if parameter.grad is not None)]


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_has_a_gradient_in_evaluation(method: str) -> None:
    converted = built(method)
    state = {name: value.clone() for name, value in converted.model.state_dict().items()}
    found = gradients(converted)
    assert len(found) == 1 + len(list(converted.model.parameters()))
    assert all(gradient.isfinite().all() for gradient in found)
    assert all(torch.equal(value, state[name]) for name, value in converted.model.state_dict().items())


@pytest.mark.parametrize("method", ["wageubn", "fixed_point"])  # their norms have the float network's statistics
def test_gradients_in_evaluation_point_where_the_float_networks_do(method: str) -> None:
    found, expected = gradients(built(method)), gradients(built("fp32"))
    for one, other in zip(found, expected, strict=True):
        # Rounded to eight bits, some values change the side of a ReLU: a few per cent of the gradient's elements.
        assert torch.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.95


@both_arithmetics
@pytest.mark.parametrize("trains", [True, False])
def test_layers_pass_gradients_straight_through_their_rounding(arithmetic: Arithmetic, trains: bool) -> None:
    """They are those of the product of the rounded operands; frozen parameters get none."""
    recipe = Recipe(weight=Symmetric(8), activation=Symmetric(8), error=Symmetric(2), gradient=Symmetric(2))
    torch.manual_seed(0)
    for float_layer, shape in ((nn.Conv2d(6, 4, 3, 2, 1, groups=2), (5, 6, 7, 7)), (nn.Linear(6, 4), (5, 3, 6))):
        model = cast(nn.Sequential, convert(nn.Sequential(float_layer), recipe, arithmetic=arithmetic).model)
        layer = cast(QuantizedLayer, model.eval()[0])
        layer.requires_grad_(trains)
        x, weight, bias = torch.randn(shape).requires_grad_(), layer.weight, layer.bias
        y = layer(x)
        weights = torch.randn(y.shape)
        (y * weights).sum().backward()
        operands = [rounded(x), rounded(weight), bias.detach().clone().requires_grad_()]
        plain: Any = functional.linear if isinstance(float_layer, nn.Linear) else float_layer._conv_forward
        expected = torch.autograd.grad((plain(*operands) * weights).sum(), operands)
        # Sums of up to 80 products of float32 numbers below 6, in another order.
        torch.testing.assert_close(x.grad, expected[0], rtol=1e-5, atol=1e-4)
        assert (weight.grad is not None) == (bias.grad is not None) == trains
        if trains:
            torch.testing.assert_close(weight.grad, expected[1], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(bias.grad, expected[2], rtol=1e-5, atol=1e-4)


def rounded(x: Tensor) -> Tensor:
    """What eight symmetric bits make of ``x``, as a leaf."""
    return quantize(x.detach(), Symmetric(8), Key(0, 0, 0)).dequantize().requires_grad_()


class Pooled(nn.Module):
    """Max pooling and a residual addition between blocks that hand codes on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = ConvNormAct(3, 8, 3), nn.MaxPool2d(2)
        self.outer = ConvNormAct(8, 8, 3, to_trunk=True)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.pool(self.first(x))
        logits: Tensor = self.last(self.outer(trunk, trunk).mean((2, 3)))
        return logits


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_inference_mode_changes_nothing_then_or_later(method: str, trains: bool) -> None:
    for cached in (level_table, decision_points, constant):
        cached.cache_clear()
    recipe = find_method(method).build({})
    nets = [convert(copy.deepcopy(net), recipe) for net in [Pooled()] * 2]
    outputs = []
    for converted, mode in zip(nets, (torch.inference_mode, torch.no_grad), strict=True):
        converted.model.train()
        materialised(converted.model(images())).sum().backward()  # ranges are known from here on
        converted.model.train(trains)
        with mode():
            inside = materialised(converted.model(images(2))).clone()
        converted.model.train()
        x = images(3).requires_grad_()
        behind = materialised(converted.model(x))
        behind.square().sum().backward()
        outputs.append([inside, behind.detach(), x.grad])
    for one, other in zip(*outputs, strict=True):
        assert torch.equal(one, other)


@both_arithmetics
@pytest.mark.parametrize("method", METHODS)
def test_evaluation_before_the_backward_pass_changes_no_gradient(method: str, arithmetic: Arithmetic) -> None:
    """As in a loop that validates between the two: errors were rounded to nearest then."""
    gradients = []
    for evaluates in (False, True):
        torch.manual_seed(0)
        converted = convert(Net(), find_method(method).build({}), arithmetic=arithmetic)
        loss = converted.model(images()).square().mean()
        if evaluates:
            converted.model.eval()
            evaluated(converted, images(2))
        loss.backward()
        gradients.append([parameter.grad for parameter in converted.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None and torch.equal(one, other)
