"""The Range batch norm block as two nodes against the same block as modules, and what the nodes keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from arithmetics import both_arithmetics
from fused_models import integer_model
from kept_tensors import noting_kept
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qbench.kernels.pooling import max_pool2d
from qbench.nn import convert
from qbench.nn.blocks import ConvNormAct, LinearNormAct
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.pooling import CompactMaxPool
from qbench.quant.formats import Affine, Symmetric
from qbench.recipe import Arithmetic, RangeNorm, Recipe
from qbench.train.memory import plain_tensors

NEAREST = Affine(8)
RECIPE = Recipe(
    weight=NEAREST,
    activation=NEAREST,
    error=NEAREST,
    wgrad_error=Symmetric(16),
    norm_error=NEAREST,
    norm=RangeNorm(chunks=4, input=NEAREST),
)
"""Without random rounding, so that both ways can be compared."""

LINE = replace(RECIPE, wgrad_line=True)
"""With the weight gradient's error as it is; the modules by themselves round it to 16 bits."""


class Net(nn.Module):
    """Two blocks with a residual addition, or two linear ones; the second is the last layer."""

    def __init__(self, *, is_conv: bool, activation: bool = True) -> None:
        super().__init__()
        self.is_conv = is_conv
        if is_conv:
            self.first: nn.Module = ConvNormAct(5, 7, 3, stride=2, to_trunk=True)
            self.second: nn.Module = ConvNormAct(7, 7, 3, activation=activation, to_trunk=True)
        else:
            self.first, self.second = LinearNormAct(20, 24), LinearNormAct(24, 9)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        y: Tensor = self.second(first, first) if self.is_conv else self.second(first)
        return y


def gradients(model: nn.Module, x: Tensor, upstream: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = materialised(model(x))
    y.backward(upstream)
    return [y.detach(), x.grad, *(p.grad for p in model.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize("recipe", [RECIPE, LINE], ids=["int16", "line"])
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("is_conv", [True, False])
def test_its_nodes_compute_what_the_modules_compute(is_conv: bool, activation: bool, recipe: Recipe) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (8, 5, 8, 8) if is_conv else (32, 20)
    x = torch.randn(shape, generator=generator)
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        net = Net(is_conv=is_conv, activation=activation)
        model = integer_model(net, recipe, fused=fused)
        upstream = torch.randn(net.eval()(x).shape, generator=torch.Generator().manual_seed(2))
        results.append(gradients(model.train(), x, upstream))
    for one, other in zip(*results, strict=True):
        # Statistics are summed in another order and precision, so a few codes move by one step of 1/255 of a range.
        assert (one - other).norm() <= 0.02 * other.norm() + 1e-6


@pytest.mark.parametrize("recipe", [RECIPE, LINE], ids=["int16", "line"])
@pytest.mark.parametrize("bias", [0.1, 0.0, -3.0])
def test_a_channel_of_one_code_is_its_bias_and_where_that_is_masked_has_no_gradient(
    bias: float, recipe: Recipe
) -> None:
    """The slope is that of eps alone: the line's roundings would be values, and gradients larger than all others."""
    torch.manual_seed(0)
    block = ConvNormAct(5, 6, 3)
    with torch.no_grad():
        block.conv.weight[2] = 0
        block.norm.bias[2] = bias
    model = integer_model(nn.Sequential(block), recipe, fused=True)
    y = materialised(model(torch.randn(8, 5, 8, 8)))
    y.backward(torch.randn(8, 6, 8, 8))
    assert (y[:, 2] == torch.tensor(bias).clamp(min=0)).all()
    if bias <= 0:
        assert not any(parameter.grad[2].any() for parameter in model.parameters())
    assert all(parameter.grad[1].any() for parameter in model.parameters())


@pytest.mark.parametrize("is_conv", [True, False])
def test_a_line_differs_from_16_bits_by_their_roundings_alone(is_conv: bool) -> None:
    """Of a weight gradient: 2^-16 of the largest error each, at random."""
    x = torch.randn((8, 5, 8, 8) if is_conv else (32, 20), generator=torch.Generator().manual_seed(1))
    results = []
    for recipe in (RECIPE, LINE):
        torch.manual_seed(0)
        model = integer_model(Net(is_conv=is_conv), recipe, fused=True)
        results.append(gradients(model, x, torch.randn(model(x).shape, generator=torch.Generator().manual_seed(2))))
    weights = [i for i, x in enumerate(results[0][2:], 2) if x.dim() > 1]
    for i, (one, other) in enumerate(zip(*results, strict=True)):
        assert (one - other).norm() <= (2e-4 * other.norm() if i in weights else 0)
    assert not torch.equal(results[0][weights[0]], results[1][weights[0]])


def test_a_line_makes_no_codes_of_16_bits() -> None:
    made = []
    for recipe in (RECIPE, LINE):
        loss = materialised(integer_model(Net(is_conv=True), recipe, fused=True)(torch.randn(8, 5, 8, 8))).sum()
        with Types() as types:
            loss.backward()
        made.append(types.seen)
    assert torch.int16 in made[0] and torch.int16 not in made[1]


def test_blocks_without_relu_and_sum_compute_what_the_modules_compute() -> None:
    """As projections of a trunk are."""
    x, upstream = (torch.randn(8, c, 8, 8, generator=torch.Generator().manual_seed(c)) for c in (5, 6))
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        blocks = [ConvNormAct(a, b, 3, activation=False, to_trunk=True) for a, b in ((5, 7), (7, 6))]
        results.append(gradients(integer_model(nn.Sequential(*blocks), RECIPE, fused=fused), x, upstream))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 0.02 * other.norm() + 1e-6


TRACKED = replace(NEAREST, tracked=True)
EVALUATED = replace(RECIPE, activation=TRACKED, norm=RangeNorm(chunks=4, input=TRACKED))


@both_arithmetics
@pytest.mark.parametrize("is_conv", [True, False])
def test_evaluation_without_gradients_computes_what_the_modules_compute(is_conv: bool, arithmetic: Arithmetic) -> None:
    torch.manual_seed(0)
    model = convert(Net(is_conv=is_conv), EVALUATED, arithmetic=arithmetic).model.train()
    x = torch.randn((8, 5, 8, 8) if is_conv else (32, 20))
    for _ in range(3):
        model(x)
    modules = materialised(model.eval()(x))
    with torch.no_grad():
        assert isinstance(model.first(x), Deferred)  # type: ignore[operator]
        fused = materialised(model(x))
    assert modules.requires_grad and not fused.requires_grad
    # The norm's line is rounded once, not at every step, so a few codes move by one step of 1/255 of a range.
    assert (fused - modules).abs().max() <= 0.02 * modules.abs().max()
    assert (fused - modules).norm() <= 0.005 * modules.norm()


def test_evaluation_with_float_weights_takes_the_modules() -> None:
    model = convert(Net(is_conv=True), replace(EVALUATED, inference_weight="float")).model.train()
    x = torch.randn(8, 5, 8, 8)
    model(x)
    with_gradients = model.eval()(x)
    with torch.no_grad():
        assert torch.equal(model(x), with_gradients)


def test_evaluation_makes_no_float_tensor_where_nothing_is_added() -> None:
    model = convert(Net(is_conv=True), EVALUATED, arithmetic="integer").model.train()
    x = torch.randn(8, 5, 16, 16).contiguous(memory_format=torch.channels_last)
    model(x)
    model.eval()
    with torch.no_grad(), Sizes() as sizes:
        y = model.first(x)  # type: ignore[operator]
    codes = x.numel()  # of the image, the largest tensor; y's floats would be more
    assert codes == max(sizes.bytes) < 4 * y.numel()


def test_nothing_float_sized_is_kept() -> None:
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    x = torch.randn(8, 5, 8, 8)
    with noting_kept() as kept:
        y = model(x)
    large = {t.untyped_storage().data_ptr(): t for t in kept if t.numel() >= y.numel() // 8}
    assert not [t for t in large.values() if t.is_floating_point()]
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    # Codes of the image, of both norms' inputs and of the weights, and one bit per value behind the addition.
    assert sum(t.nbytes for t in large.values()) <= x.numel() + 2 * y.numel() + y.numel() // 8 + weights


def test_a_deferred_activation_behaves_like_its_values() -> None:
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    first = model.first(torch.randn(8, 5, 8, 8))  # type: ignore[operator]
    assert isinstance(first, Deferred)
    assert first.shape == (8, 7, 4, 4)
    assert first.requires_grad
    values = materialised(first)
    assert torch.equal(first * 2, values * 2)
    assert torch.equal(torch.relu(first), values)
    assert torch.equal(first.sum(), values.sum())
    assert not isinstance(first + 1, Deferred)


def test_nodes_of_a_block_can_run_backward_twice() -> None:
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    y = materialised(model(torch.randn(8, 5, 8, 8)))
    found = []
    for retain in (True, False):
        model.zero_grad()
        y.sum().backward(retain_graph=retain)
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_hooks_of_saved_tensors_may_change_their_memory_layout() -> None:
    """As ``save_on_cpu(pin_memory=True)`` does, which gives back row-major tensors."""
    torch.manual_seed(0)
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    x, upstream = torch.randn(8, 5, 8, 8), torch.randn(8, 7, 4, 4)
    expected = gradients(model, x, upstream)
    model.zero_grad()

    def moved(tensor: Tensor) -> Tensor:
        return tensor.detach().clone(memory_format=torch.contiguous_format)

    with torch.autograd.graph.saved_tensors_hooks(moved, lambda tensor: tensor):
        found = gradients(model, x, upstream)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_anomaly_detection_takes_no_placeholder_for_a_mistake() -> None:
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    with torch.autograd.detect_anomaly(check_nan=True):  # type: ignore[no-untyped-call]
        materialised(model(torch.randn(8, 5, 8, 8))).sum().backward()


@pytest.mark.parametrize("images", [1, 8, 19])
def test_pooling_a_view_is_pooling_its_values(images: int) -> None:
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    view = model.first(torch.randn(images, 5, 8, 8)).source  # type: ignore[operator]
    geometry = ((3, 3), (2, 2), (1, 1))
    for found, expected in zip(view.pooled(*geometry), max_pool2d(view.values()[0], *geometry), strict=True):
        assert torch.equal(found, expected)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_pooling_a_deferred_activation_has_the_gradient_of_pooling_its_values() -> None:
    pool = CompactMaxPool(nn.MaxPool2d(3, 2, 1))
    results = []
    for make in (lambda x: x, materialised):
        torch.manual_seed(0)
        model = integer_model(Net(is_conv=True), RECIPE, fused=True)
        pool(make(model.first(torch.randn(8, 5, 8, 8)))).square().sum().backward()  # type: ignore[operator]
        results.append([p.grad for p in model.first.parameters()])  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The bytes of every tensor that an operator returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes += [tensor.untyped_storage().nbytes() for tensor in plain_tensors(result)]
        return result


class Types(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The types of the tensors that operators return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen |= {tensor.dtype for tensor in plain_tensors(result)}
        return result


def test_a_pool_beside_another_consumer_sends_the_same_gradient() -> None:
    pools = [CompactMaxPool(nn.MaxPool2d(3, 2, 1)), CompactMaxPool(nn.MaxPool2d(2, 2))]
    results = []
    for make in (lambda x: x, materialised):
        torch.manual_seed(0)
        model = integer_model(Net(is_conv=True), RECIPE, fused=True)
        y = model.first(torch.randn(8, 5, 8, 8))  # type: ignore[operator]
        loss = sum(pool(make(y)).square().sum() for pool in pools) + materialised(y).sum()
        loss.backward()
        results.append([p.grad for p in model.first.parameters()])  # type: ignore[union-attr]
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("hooked", [True, False])
def test_a_hook_sees_the_gradient_behind_a_pool(hooked: bool) -> None:
    pool, seen = CompactMaxPool(nn.MaxPool2d(3, 2, 1)), []
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    y = model.first(torch.randn(8, 5, 8, 8))  # type: ignore[operator]
    if hooked:
        y.register_hook(seen.append)
    else:
        y.retain_grad()
    pooled = pool(y)
    pooled.sum().backward()
    gradient = seen[0] if hooked else y.grad
    # Every window sends a 1 to one element.
    assert gradient.sum() == pooled.numel()


def test_the_gradient_behind_a_pool_never_exists() -> None:
    model = integer_model(Net(is_conv=True), RECIPE, fused=True)
    y = model.first(torch.randn(8, 5, 16, 16))  # type: ignore[operator]
    loss = CompactMaxPool(nn.MaxPool2d(3, 2, 1))(y).sum()
    with Sizes() as sizes:
        loss.backward()
    assert y.numel() <= max(sizes.bytes) < 4 * y.numel()


def test_recipes_that_need_more_take_the_modules() -> None:
    for other in (
        replace(RECIPE, norm=RangeNorm(chunks=4, tie="split", input=NEAREST)),
        replace(RECIPE, norm_error=None),
        replace(RECIPE, activation=Affine(8, scheme="min_offset")),
    ):
        model = convert(Net(is_conv=True), other).model
        assert model.first.fused is None  # type: ignore[union-attr]
        model.train()
        model(torch.randn(8, 5, 8, 8)).sum().backward()


def test_a_bias_in_front_of_the_norm_takes_the_modules() -> None:
    """The norm on codes has no place for it: it had no gradient, and evaluation with gradients was another."""
    model = nn.Sequential(ConvNormAct(5, 7, 3))
    model[0].conv = nn.Conv2d(5, 7, 3, padding=1)
    nn.init.constant_(model[0].conv.bias, 5.0)  # type: ignore[arg-type]
    block = convert(model, RECIPE).model[0]  # type: ignore[index]
    x = torch.randn(8, 5, 8, 8)
    block(x).sum().backward()
    assert block.conv.bias.grad is not None
    with_gradients = block.eval()(x)
    with torch.no_grad():
        assert torch.equal(block(x), with_gradients)
