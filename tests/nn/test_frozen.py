"""Layers whose weight is not trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qbench import find_method
from qbench.nn import ConvNormAct, convert, integer
from qbench.nn.geometry import Geometry
from qbench.nn.layers import Value


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
