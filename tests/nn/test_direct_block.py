"""WAGEUBN's block as one node against the same block as modules, and what the node keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fused_models import integer_model
from kept_tensors import noting_kept
from torch import Tensor, nn

from qbench.kernels.random import Key
from qbench.nn import convert
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.fused.direct import steps_and_top
from qbench.nn.pooling import CompactMaxPool
from qbench.nn.site import Site
from qbench.quant.formats import Affine, Direct, Flag, Shift
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.recipe import DirectNorm, Recipe

RECIPE = Recipe(
    weight=Direct(8, 1 - 2.0**-7), activation=Direct(8), error=Flag(8), branch_error=Shift(8), norm=DirectNorm()
)
WITHOUT_ERRORS = replace(RECIPE, error=None, branch_error=None)


class Net(nn.Module):
    """A residual block behind a block that starts the trunk, or two linear blocks."""

    def __init__(self, *, is_conv: bool) -> None:
        super().__init__()
        self.is_conv = is_conv
        if is_conv:
            self.first: nn.Module = ConvNormAct(5, 7, 3, stride=2, to_trunk=True)
            self.branch = Branch()
            self.inner = ConvNormAct(7, 7, 3)
            self.last: nn.Module = ConvNormAct(7, 7, 3, to_trunk=True)
        else:
            self.first, self.last = LinearNormAct(20, 24), LinearNormAct(24, 9)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        y: Tensor = self.last(self.inner(self.branch(first)), first) if self.is_conv else self.last(first)
        return y


def built(*, is_conv: bool = True, fused: bool = True, recipe: Recipe = RECIPE) -> nn.Module:
    torch.manual_seed(0)
    return integer_model(Net(is_conv=is_conv), recipe, fused=fused)


def results(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = materialised(model(x))
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(2)))
    return [y.detach(), x.grad, *(p.grad for p in model.parameters()), *model.buffers()]  # type: ignore[list-item]


def images(is_conv: bool = True) -> Tensor:
    return torch.randn((8, 5, 8, 8) if is_conv else (32, 20), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("recipe", [RECIPE, WITHOUT_ERRORS, replace(RECIPE, trunk=Direct(8, 255.0))], ids=str)
@pytest.mark.parametrize("is_conv", [True, False])
def test_its_node_computes_what_the_modules_compute(is_conv: bool, recipe: Recipe) -> None:
    one, other = (
        results(built(is_conv=is_conv, fused=fused, recipe=recipe), images(is_conv)) for fused in (True, False)
    )
    for a, b in zip(one, other, strict=True):
        # Statistics are summed in another precision: a code that lies at a tie may move by one step.
        assert (a - b).norm() <= 0.02 * b.norm() + 1e-6


def test_values_are_exactly_the_modules_where_the_statistics_agree() -> None:
    """Means and deviations that both sums find exactly: every code and every value is the same."""
    x = torch.tensor([-2.0, -1.0, 0.0, 3.0]).repeat(16).view(64, 1).expand(64, 20)
    outputs = []
    for fused in (True, False):
        model = built(is_conv=False, fused=fused, recipe=replace(RECIPE, weight=None, activation=None))
        with torch.no_grad():
            model.first.linear.weight.copy_(torch.eye(24, 20))  # type: ignore[union-attr]
        outputs.append(materialised(model.first(x.contiguous())).detach())  # type: ignore[operator]
    assert torch.equal(*outputs)


def test_activations_are_encoded_from_the_norms_input() -> None:
    """The codes are those of the values, which are made nowhere."""
    model = built()
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(site: Site, q: QTensor, exact: Tensor) -> None:
        seen[site.name] = (q.dequantize(), exact)

    for module in model.modules():
        if isinstance(module, Site):
            module.watcher = watch
    materialised(model(images())).sum().backward()
    assert set(seen) == {module.name for module in model.modules() if isinstance(module, Site)}
    found, exact = seen["last.conv/activation"]
    assert torch.equal(found, (exact * 2**7).round() / 2**7)
    for name in ("mean", "deviation", "normalised", "gamma", "beta"):
        assert f"inner.norm/{name}" in seen


def test_sites_are_left_alone_in_steps_that_nobody_looks_at() -> None:
    model = built()
    for module in model.modules():
        if isinstance(module, Site):
            module.clock.step = 1
    materialised(model(images())).sum().backward()
    sites = [module for module in model.modules() if isinstance(module, Site)]
    assert all(site.seen.low is None for site in sites)


def test_keeps_one_float_per_value() -> None:
    model = built()
    with noting_kept() as kept:
        y = model(images())
    size = y.numel()
    large = {t.untyped_storage().data_ptr(): t for t in kept if t.numel() >= size}
    floats = [t for t in large.values() if t.is_floating_point()]
    assert len(floats) == 3  # the inputs of the three norms, all of one size
    assert {t.numel() for t in floats} == {size}


def test_its_output_is_deferred() -> None:
    model = built()
    for y in (model.first(images()), model(images())):  # type: ignore[operator]
        assert isinstance(y, Deferred)
        values = materialised(y)
        assert torch.equal(y * 2, values * 2) and torch.equal(torch.relu(y), values)


def test_pooling_a_deferred_activation_has_the_gradient_of_pooling_its_values() -> None:
    pool = CompactMaxPool(nn.MaxPool2d(3, 2, 1))
    found = []
    for make in (lambda x: x, materialised):
        model = built()
        y = pool(make(model.first(images())))  # type: ignore[operator]
        y.square().sum().backward()
        found.append([y.detach(), *(p.grad for p in model.first.parameters())])  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_backward_can_run_twice() -> None:
    model = built()
    y = materialised(model(images()))
    found = []
    for retain in (True, False):
        model.zero_grad()
        y.sum().backward(retain_graph=retain)
        found.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_float_layer_takes_the_values_of_a_deferred_activation() -> None:
    model = convert(nn.Sequential(LinearNormAct(20, 24), nn.Linear(24, 9)), replace(RECIPE, last_layer="float")).model
    torch.manual_seed(0)
    x = images(is_conv=False)
    grads = []
    for make in (lambda x: x, materialised):
        model.zero_grad()
        model[1](make(model[0](x))).square().sum().backward()  # type: ignore[index,operator]
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_recipes_that_need_more_take_the_modules() -> None:
    for other in (
        replace(RECIPE, norm=DirectNorm(normalised=None)),
        replace(RECIPE, norm=DirectNorm(affine=Direct(8, rounding="stochastic"))),
        replace(RECIPE, norm_error=Affine(8)),
    ):
        model = convert(Net(is_conv=True), other).model
        assert model.first.fused is None  # type: ignore[union-attr]
        model.train()
        model(images()).sum().backward()


@pytest.mark.parametrize(
    ("grid", "steps", "top"),
    [(Direct(8), 128, 32767), (Direct(16), 2**15, 2**24), (Direct(8, 1.0), 128, 128), (Direct(8, 0.3), 128, 38)],
)
def test_grids_are_clipped_at_their_limits(grid: Direct, steps: float, top: float) -> None:
    assert steps_and_top(grid) == (steps, top)
    assert quantize(torch.tensor(1e9), grid, Key(0, 0, 0)).dequantize().item() == top / steps
