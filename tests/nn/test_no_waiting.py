"""A training step never makes the host wait for the device: then a GPU is never idle, and a step can be captured in a
CUDA graph.

Checked without a GPU, on PyTorch's meta device. Its tensors have no values, so a step that asks for one fails, and a
copy between it and the host's memory, which on a GPU waits, shows as an operator on two devices. The kernels themselves
are stood for by their fakes; that they do not wait is a test of the CUDA backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, get_args

import pytest
import torch
from recorded_steps import CONFIGURATIONS
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qbench.catalog import find_method
from qbench.models import build_model
from qbench.nn import Converted, convert
from qbench.train.build import BuiltCell, build_cell
from qbench.train.contract import BATCH, Probe
from qbench.train.settings import OptimizerSettings
from qbench.train.step import TrainStep

META = torch.device("meta")
MAKERS: frozenset[Any] = frozenset([torch.tensor, torch.as_tensor, Tensor.new_tensor])
"""They fill host memory and copy it to the device, which on the meta device leaves no trace."""


class Copies(TorchDispatchMode):
    """Operators with tensors on the host and on the device. A number on the host (0-d) among operands is no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        if len({x.device for x in tensors if x.dim() or x is result}) > 1:
            self.found.append(str(func))
        return result


class Makers(TorchFunctionMode):
    """Calls that make a tensor of a Python number on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in MAKERS and result.device == META:
            self.found.append(func.__name__)
        return result


@pytest.fixture
def swapping() -> Iterator[None]:
    """Moving a model keeps its parameters' identity, which the optimiser knows them by."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


def waits(built: BuiltCell) -> list[str]:
    """What in a step, or in an evaluation, would wait. The first step may: tables are made, and kernels compiled.

    Without autocast, which PyTorch does not have for this device.
    """
    built.model.to(META)
    for group in built.optimizer.param_groups:
        group["fused"] = False  # PyTorch has no fused rule for this device
    images = torch.empty((BATCH, 1, 8, 8), device=META).contiguous(memory_format=torch.channels_last)
    labels = torch.empty(BATCH, dtype=torch.long, device=META)
    step = TrainStep(built)
    step.update(step.forward(0, images, labels))
    with Copies() as copies, Makers() as makers:
        step.update(step.forward(1, images, labels))
        built.model.eval()
        with torch.no_grad():
            built.converted.predict(images)
    return copies.found + makers.found


@pytest.mark.parametrize(("method", "options"), CONFIGURATIONS, ids=str)
def test_what_is_converted_on_a_device_stays_there(method: str, options: dict[str, object]) -> None:
    recipe = find_method(method).build(options)
    model = build_model("resnet8", num_classes=10, in_channels=1, image_size=8, options={}).to(META)
    converted = convert(model, recipe)
    astray = [name for name, x in converted.model.state_dict(keep_vars=True).items() if x.device != META]
    astray += [name for name, x in converted.model.named_buffers() if x.device != META]
    assert astray == []
    images = torch.empty((BATCH, 1, 8, 8), device=META).contiguous(memory_format=torch.channels_last)
    converted.model(images).sum().backward()


@pytest.mark.slow
@pytest.mark.usefixtures("swapping")
@pytest.mark.parametrize("optimizer", get_args(OptimizerSettings.model_fields["name"].annotation))
@pytest.mark.parametrize(("method", "options"), [("fp32", {}), ("bf16", {}), *CONFIGURATIONS], ids=str)
def test_no_step_waits(
    method: str, options: dict[str, object], optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Converted, "precision", lambda _: nullcontext())
    cell = Probe(find_method(method), method).cell(options)
    settings = cell.train.model_copy(update={"optimizer": cell.train.optimizer.model_copy(update={"name": optimizer})})
    assert waits(build_cell(cell.model_copy(update={"train": settings}))) == []


@pytest.mark.usefixtures("swapping")
@pytest.mark.parametrize(
    "wait",
    [lambda y: y * y.new_tensor(2.0), lambda y: y + torch.ones(10).to(y.device), lambda y: y * y.max().item()],
    ids=["number", "copy", "value"],
)
def test_what_waits_is_seen(wait: Callable[[Tensor], Tensor]) -> None:
    built = build_cell(Probe(find_method("fp32"), "fp32").cell({}))
    built.model.register_forward_hook(lambda model, inputs, y: wait(y))
    try:
        found = waits(built)
    except RuntimeError as error:
        found = [str(error)]
    assert found
