"""PyTorch's default type of floats, which is whatever a program has set: nothing that is trained follows it."""

from __future__ import annotations

import copy

import pytest
import torch
from recorded_steps import CONFIGURATIONS
from torch import Tensor, nn
from torch_settings import default_type

from qbench import find_method
from qbench.nn import ConvNormAct, convert
from qbench.optim import build_optimizer
from qbench.train.settings import OptimizerSettings

STEPS = 2


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = ConvNormAct(3, 8, 3), ConvNormAct(8, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("method", "options"), CONFIGURATIONS)
def test_training_does_not_follow_it(method: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    network, x = Network(), torch.randn(4, 3, 6, 6)
    recipe, left = find_method(method).build(options), list[list[Tensor]]()
    for dtype in (torch.float32, torch.float64):
        with default_type(dtype):
            converted = convert(copy.deepcopy(network), recipe)
            optimizer = build_optimizer(converted, recipe, OptimizerSettings(lr=0.05))
            for converted.clock.step in range(STEPS):
                optimizer.zero_grad()
                converted.model(x).square().sum().backward()
                optimizer.step()
            converted.model.eval()
            left.append([*converted.model.state_dict().values(), converted.predict(x)])
    for one, other in zip(*left, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
