"""Values of the residual stream that are held only while something reads them, and codes that are made again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.models import build_model
from qbench.nn import convert, layers
from qbench.nn.blocks import ConvNormAct
from qbench.nn.deferred import Deferred, done_with, materialised
from qbench.nn.views import Held
from qbench.quant.formats import Affine, Symmetric
from qbench.recipe import RangeNorm, Recipe

NEAREST = Affine(8)
TRACKED = Affine(8, tracked=True)
RECIPE = Recipe(
    weight=NEAREST, activation=TRACKED, error=NEAREST, wgrad_error=Symmetric(16), norm_error=NEAREST,
    norm=RangeNorm(chunks=4, input=NEAREST),
)  # fmt: skip


class Chain(nn.Module):
    """A stem with max pooling and two residual blocks of one convolution; ``outputs`` are what they gave last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, 3, to_trunk=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.ModuleList([ConvNormAct(8, 8, 3, to_trunk=True) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        self.outputs = [self.pool(self.stem(x))]
        for block in self.blocks:
            self.outputs.append(block(self.outputs[-1], self.outputs[-1]))
        return self.outputs[-1]


def chain() -> tuple[Chain, Tensor]:
    torch.manual_seed(0)
    model = convert(Chain(), RECIPE, arithmetic="integer").model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(model, Chain)
    return model.train(), torch.randn(4, 3, 12, 12).contiguous(memory_format=torch.channels_last)


def sources(model: Chain) -> list[Held]:
    found = [y.source for y in model.outputs if isinstance(y, Deferred)]
    assert len(found) == len(model.outputs) and all(isinstance(source, Held) for source in found)
    return found  # type: ignore[return-value]


def test_values_end_where_they_were_added_and_come_back_the_same() -> None:
    model, x = chain()
    model(x)
    held = sources(model)
    assert [source.is_held for source in held] == [False, False, True]
    last = held[-1].values()[0].clone()
    held[-1].release()
    assert not held[-1].is_held
    assert torch.equal(held[-1].values()[0], last)
    pooled = nn.functional.max_pool2d(materialised(model.stem(x)), 3, 2, 1)
    assert torch.equal(held[0].values()[0], pooled)


def test_whether_they_are_held_changes_no_gradient() -> None:
    results = []
    for forget in (False, True):
        model, x = chain()
        y = model(x)
        if forget:
            done_with(y)
        # All three outputs have other readers too, two of which find their values gone.
        sum(materialised(output).square().sum() for output in model.outputs).backward()
        results.append([p.grad for p in model.parameters()])
    assert all(map(torch.equal, *results))


def test_values_are_refused_once_the_backward_pass_took_their_codes() -> None:
    model, x = chain()
    materialised(model(x)).sum().backward()
    assert sources(model)[-1].values()[0].isfinite().all()
    with pytest.raises(RuntimeError, match="after the backward pass overwrote its codes: ask before"):
        model.outputs[1] + 1
    with pytest.raises(RuntimeError, match="after the backward pass overwrote its codes: ask before"):
        model.outputs[0] + 1


def test_values_changed_in_place_are_refused() -> None:
    model, x = chain()
    y = model(x)
    materialised(y).mul_(2)
    with pytest.raises(RuntimeError, match="changed in place: change a clone"):
        y + 1


def test_done_with_leaves_other_tensors_alone() -> None:
    plain = torch.ones(2, requires_grad=True)
    done_with(plain)
    model, x = chain()
    view = model.stem(x)
    done_with(view)
    assert torch.equal(materialised(view), materialised(view)) and plain.sum() == 2


def test_a_projection_and_its_branch_read_one_encoding() -> None:
    """Where the shape changes, nothing reads the stream's floats behind the projection, and its range moves once."""
    torch.manual_seed(0)
    model = build_model("resnet8", num_classes=10, in_channels=3, image_size=12, options={"width": 8})
    converted = convert(model.to(memory_format=torch.channels_last), RECIPE, arithmetic="integer")  # type: ignore[call-overload]
    stages = list(converted.model.stages)  # type: ignore[union-attr,misc]
    seen: list[Deferred] = []
    for stage in stages:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(output))
    converted.model.train()(torch.randn(4, 3, 12, 12).contiguous(memory_format=torch.channels_last))
    # The first two stages' outputs go into projections, the last one into the pooling.
    assert [output.source.is_held for output in seen] == [False, False, True]  # type: ignore[union-attr]
    assert [len(output.source.known) for output in seen] == [1, 1, 0]  # type: ignore[union-attr]


# --- codes that are made again


def gradients(many_codes: int, change: Callable[[nn.Module], Any], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    monkeypatch.setattr(layers, "MANY_CODES", many_codes)
    model, x = chain()
    loss = materialised(model(x)).square().sum()
    change(model)
    loss.backward()
    return [p.grad for p in model.parameters()]  # type: ignore[misc]


def test_codes_made_again_are_those_that_were_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, again = (gradients(many, lambda model: None, monkeypatch) for many in (10**9, 1))
    assert all(map(torch.equal, kept, again))


def test_a_range_is_tracked_once_where_codes_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = []
    for many in (10**9, 1):
        monkeypatch.setattr(layers, "MANY_CODES", many)
        model, x = chain()
        for _ in range(2):
            materialised(model(x)).sum().backward()
        ranges.append([b.clone() for name, b in model.named_buffers() if name.endswith("tracked")])
    assert len(ranges[0]) == 3 and all(map(torch.equal, *ranges))


def test_weights_changed_before_the_backward_pass_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def change(model: nn.Module) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(1, change, monkeypatch)
