"""Gradients in evaluation, inference mode, and evaluation between a step's two passes."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from arithmetics import both_arithmetics
from evaluated_models import Net, built, evaluated, images
from torch import Tensor, nn
from torch.nn import functional

from qbench import Recipe, Symmetric
from qbench.catalog import find_method
from qbench.kernels.constants import constant
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.deferred import materialised
from qbench.nn.layers import QuantizedLayer
from qbench.quant.levels import decision_points, level_table
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic

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
