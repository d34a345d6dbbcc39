"""Steps that cannot be captured are refused. That others are replayed rightly is a test of the pretended GPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qbench.nn import CapturedStep, convert
from qbench.nn.capture import _refuse_held_graphs, _signed
from qbench.recipe import Recipe


def test_a_model_on_the_cpu_is_refused() -> None:
    converted = convert(nn.Sequential(nn.Linear(3, 2)), Recipe())
    with pytest.raises(ValueError, match="one CUDA device, but the model's parameters lie on: cpu"):
        CapturedStep(converted, lambda: None)


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="lie on: nowhere"):
        CapturedStep(convert(nn.Sequential(nn.ReLU()), Recipe()), lambda: None)


def test_a_graph_of_an_earlier_step_is_refused() -> None:
    """Its nodes are on another stream than the capture's. Without a graph, or behind it, there is nothing to refuse."""
    converted = convert(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), Recipe())
    for parameter in converted.model[0].parameters():
        parameter.requires_grad = False
    _refuse_held_graphs(converted)
    loss = converted.model(torch.ones(1, 3)).sum()
    loss.backward()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"still held with its graph, which 1\.weight takes part in"):
            _refuse_held_graphs(converted)
    loss = loss.detach()
    _refuse_held_graphs(converted)
    assert loss.isfinite()


@pytest.mark.parametrize("number", [0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**32 - 1])
def test_differences_of_steps_are_counted_modulo_32_bits(number: int) -> None:
    held = torch.tensor(_signed(number), dtype=torch.int32)
    assert (int(held) - number) % 2**32 == 0
