"""Layers whose weight is not trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qbench import find_method
from qbench.nn import ConvNormAct, convert, integer, layers
from qbench.nn.geometry import Geometry
from qbench.nn.products import Value


@pytest.mark.parametrize("method", ["banner8", "wageubn", "graham", "sr", "wage"])
def test_a_frozen_weight_costs_no_product(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others get the gradients that they get beside a weight that is trained."""
    made: list[torch.Size] = []
    product = integer.conv_weight_grad

    def counted(x: Value, error: Value, shape: torch.Size, geometry: Geometry) -> Tensor:
        made.append(shape)
        return product(x, error, shape, geometry)

    monkeypatch.setattr(integer, "conv_weight_grad", counted)
    gradients = []
    for is_frozen in (False, True):
        torch.manual_seed(0)
        blocks = [ConvNormAct(3, 4, 3), ConvNormAct(4, 5, 3), ConvNormAct(5, 6, 3)]
        converted = convert(nn.Sequential(*blocks), find_method(method).build({}))
        weights = [layer.weight for _, layer in converted.layers()]
        weights[1].requires_grad_(not is_frozen)
        converted.model(torch.randn(4, 3, 6, 6)).square().mean().backward()
        gradients.append([weight.grad for weight in weights])
    (first, _, last), (same_first, none, same_last) = gradients
    assert none is None
    assert torch.equal(first, same_first) and torch.equal(last, same_last)
    assert made.count(weights[1].shape) == 1 and made.count(weights[2].shape) == 2


class Stream(nn.Module):
    """A residual stream behind a block that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 4, 3, to_trunk=True)
        self.inner, self.outer = ConvNormAct(4, 4, 3, to_trunk=True), ConvNormAct(4, 5, 3)
        self.stem.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.stem(x)
        return self.outer(self.inner(trunk, trunk))  # type: ignore[no-any-return]


@pytest.mark.parametrize("is_all_frozen", [False, True])
@pytest.mark.parametrize("method", ["banner8", "wageubn", "graham", "fixed_point", "wage"])
def test_what_frozen_blocks_give_is_no_tensor_to_be_encoded_again(
    method: str, is_all_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no gradient, as the network's own input, but is codes: what stands for them in the graph has no values.
    From so many codes on a layer makes those of its input again."""
    gradients = []
    for many in (layers.MANY_CODES, 1):
        monkeypatch.setattr(layers, "MANY_CODES", many)
        torch.manual_seed(0)
        network = Stream()
        network.inner.requires_grad_(not is_all_frozen)
        converted = convert(network, find_method(method).build({}))
        converted.model(torch.randn(4, 3, 6, 6)).square().mean().backward()
        gradients.append([weight.grad for weight in converted.model.parameters() if weight.grad is not None])
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
