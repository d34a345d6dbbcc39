"""Graham's block in residual networks: codes alone are kept, and what is made of them anew is what was used."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fused_models import unfuse
from kept_tensors import noting_kept
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.models import build_model
from qbench.nn import convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.fused import level
from qbench.nn.views import Held, Source, SumView, View
from qbench.recipe import Arithmetic

RECIPE = find_method("graham").build({"bits": 4})
IMAGES = (6, 3, 16, 16)


def images() -> Tensor:
    x = torch.randn(IMAGES, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def residual(arithmetic: Arithmetic = "integer") -> nn.Module:
    """Three stages of three blocks."""
    torch.manual_seed(0)
    model = build_model("resnet20", num_classes=10, in_channels=3, image_size=16, options={})
    return convert(model, RECIPE, arithmetic=arithmetic).model.train()


def pooled() -> nn.Module:
    """A stream that begins behind max pooling."""
    torch.manual_seed(0)
    model = build_model("resnet18", num_classes=10, in_channels=3, image_size=16, options={})
    return convert(model, RECIPE, arithmetic="integer").model.train()


class Chain(nn.Module):
    """Blocks on a stream that begins with floats."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ConvNormAct(3, 3, 3, to_trunk=True) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        stream = self.trunk = x * 1.0
        self.outputs = list[Tensor]()
        for block in self.blocks:
            stream = block(stream, stream)
            self.outputs.append(stream)
        return stream


def chain() -> Chain:
    torch.manual_seed(0)
    model = convert(Chain(), RECIPE, arithmetic="integer").model.train()
    assert isinstance(model, Chain)
    return model


def gradients(model: nn.Module) -> list[Tensor]:
    materialised(model(images())).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]  # type: ignore[misc]


@pytest.mark.parametrize("build", [residual, chain])
def test_its_node_computes_what_the_modules_compute(build: Callable[[], nn.Module]) -> None:
    """But for a code here and there, because statistics are summed in another precision."""
    nodes, modules = build(), build()
    unfuse(modules)
    for found, expected in zip(gradients(nodes), gradients(modules), strict=True):
        assert (found - expected).norm() <= 1e-3 * expected.norm()
    for found, expected in zip(nodes.buffers(), modules.buffers(), strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def held_for_good(view: View, trunk: Tensor, source: Source | None) -> tuple[Held, Tensor]:
    values, _, mask = view.values(trunk if source is None else source.values()[0])
    return Held(values, None, None), mask


@pytest.mark.parametrize("build", [residual, lambda: residual("simulated"), pooled])
def test_nothing_but_codes_is_kept_of_activations(build: Callable[[], nn.Module]) -> None:
    model, x = build(), images()
    with noting_kept() as kept:
        model(x)
    smallest = IMAGES[0] * 512 + 1  # more than the classifier's operand, which its gradient takes
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    large = [t for t in kept if t.numel() >= smallest and t.data_ptr() not in weights]
    assert {t.data_ptr() for t in large if t.is_floating_point()} <= {x.data_ptr()}
    assert any(t.dtype == torch.uint8 for t in kept)


@pytest.mark.parametrize("build", [residual, pooled, chain])
def test_values_made_anew_give_the_gradients_of_those_that_are_held(
    build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = gradients(build())
    with torch.autograd.graph.save_on_cpu():  # what comes back is a copy
        copied = gradients(build())
    monkeypatch.setattr(level, "added", held_for_good)
    expected = gradients(build())
    for one, other, wanted in zip(found, copied, expected, strict=True):
        assert torch.equal(one, wanted) and torch.equal(other, wanted)


def test_the_stream_is_held_while_it_is_read() -> None:
    model = chain()
    last = model(images())
    held = [y.source for y in model.outputs if isinstance(y, Deferred)]
    assert [source.is_held for source in held if isinstance(source, Held)] == [False, False, True]
    values = materialised(last).clone()
    held[-1].release()  # type: ignore[union-attr]
    assert isinstance(held[-1], Held) and isinstance(held[-1].view, SumView)
    assert torch.equal(held[-1].values()[0], values)


def test_a_beginning_that_has_changed_is_refused() -> None:
    model = chain()
    last = model(images())
    with torch.no_grad():
        model.trunk.add_(1)
    with pytest.raises(RuntimeError, match="was changed in place: change a clone"):
        materialised(model.outputs[0])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        materialised(last).sum().backward()
