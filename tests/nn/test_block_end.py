"""The ReLUs of converted blocks: the same values and gradients, and what they keep."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qbench.nn import convert
from qbench.nn.activation import relu_keeping_bits
from qbench.nn.blocks import ConvNormAct
from qbench.quant.formats import Symmetric
from qbench.recipe import Recipe

SHAPES = ((), (7,), (3, 5), (2, 3, 5, 7), (0, 3, 2, 2))


def awkward(shape: tuple[int, ...]) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    flat = x.view(-1)
    for place, value in enumerate((0.0, -0.0, torch.nan, torch.inf, -torch.inf, 1e-45)):
        flat[place : place + 1] = value
    return x


@pytest.mark.parametrize("is_channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
def test_bits_give_the_values_and_gradients_of_relu(shape: tuple[int, ...], is_channels_last: bool) -> None:
    outcomes = []
    for relu in (relu_keeping_bits, torch.relu):
        x = awkward(shape)
        if len(shape) == 4 and is_channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x.requires_grad_()
        y = relu(x)
        y.backward(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        assert x.grad is not None
        outcomes.append((y.detach(), x.grad))
    for found, expected in zip(*outcomes, strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=0, equal_nan=True)


def kept_bytes(recipe: Recipe) -> int:
    """Of a block between two layers, without what it keeps of its own input."""
    torch.manual_seed(0)
    block = convert(torch.nn.Sequential(ConvNormAct(8, 8, 3), ConvNormAct(8, 8, 3)), recipe).model[1].train()  # type: ignore[index]
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x)
    return sum(seen.values()) - (0 if recipe.activation is not None else x.nbytes)


def test_what_a_block_keeps() -> None:
    """Behind a quantised layer: codes, the norm's input and bits, where the float block keeps two float tensors."""
    values = 4 * 8 * 6 * 6
    small = 2000  # weights and vectors
    assert kept_bytes(Recipe(activation=Symmetric(8))) <= values * (1 + 4) + values // 8 + 8 * 8 * 9 * 4 + small
    assert values * 8 <= kept_bytes(Recipe()) <= values * 8 + 8 * 8 * 9 * 4 + small
