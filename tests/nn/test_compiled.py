"""torch.compile around converted models: their modules run as they are, whatever stands between them is compiled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qbench.catalog import find_method, methods
from qbench.models import build_model
from qbench.nn import ConvNormAct, convert
from qbench.optim import build_optimizer
from qbench.recipe import LayerScale
from qbench.train.settings import OptimizerSettings

STEPS = 2


def of_blocks() -> nn.Module:
    return nn.Sequential(
        ConvNormAct(1, 4, 3), nn.MaxPool2d(2), ConvNormAct(4, 4, 3), nn.Flatten(), nn.Linear(64, 6), nn.Linear(6, 5)
    )


def of_layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def needs_blocks(method: str) -> bool:
    """Whether the method's norm is a constant of the layer in front of it."""
    return isinstance(find_method(method).build({}).norm, LayerScale)


def residual() -> nn.Module:
    return build_model("resnet8", num_classes=5, in_channels=1, image_size=8)


def train(network: Callable[[], nn.Module], method: str, compiles: bool) -> list[Tensor]:
    """Outputs and weights of a short training, and outputs in evaluation."""
    torch.manual_seed(0)
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    recipe = find_method(method).build({})
    converted = convert(network(), recipe)
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(lr=0.05))
    model = torch.compile(converted.model, backend="eager") if compiles else converted.model
    x, labels, found = torch.randn(8, 1, 8, 8), torch.arange(8) % 5, []
    for step in range(STEPS):
        converted.clock.step = step
        y = model(x)
        optimizer.zero_grad()
        nn.functional.cross_entropy(y, labels).backward()
        optimizer.step()
        found.append(y.detach())
    model.eval()
    with torch.no_grad():
        found.append(model(x))
    return [*found, *(value.clone() for value in converted.model.state_dict().values())]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # Dynamo looks at it
@pytest.mark.parametrize("network", [of_blocks, of_layers, residual])
@pytest.mark.parametrize("method", methods().names())
def test_training_is_that_of_the_model_itself(method: str, network: Callable[[], nn.Module]) -> None:
    if network is of_layers and needs_blocks(method):
        pytest.skip("the method takes blocks alone")
    eager, compiled = (train(network, method, compiles) for compiles in (False, True))
    assert len(eager) == len(compiled)
    assert all(torch.equal(one, other) for one, other in zip(eager, compiled, strict=True))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.parametrize("network", [of_blocks, of_layers])
def test_tracing_and_exporting_are_refused(network: Callable[[], nn.Module]) -> None:
    """What they made gave the example's codes for any other batch."""
    model, x = convert(network(), find_method("sr").build({})).model.eval(), torch.randn(8, 1, 8, 8)
    for record in (torch.jit.trace, lambda *arguments: torch.export.export(*arguments, strict=False)):
        with pytest.raises(RuntimeError, match=r"neither traced \(torch.jit.trace\) nor exported"):
            record(model, (x,))
    assert model(x).isfinite().all()
