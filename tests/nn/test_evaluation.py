"""Evaluation: fused blocks against their modules, and that what is remembered between batches follows every change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.nn import Converted, convert
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.convert import QuantizedConvNormAct, QuantizedLinearNormAct
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.remembered import Remembered
from qbench.nn.site import Site
from qbench.optim import build_optimizer
from qbench.quant.qtensor import QTensor
from qbench.train.settings import OptimizerSettings

FUSED = ("graham", "wageubn")
"""Methods whose blocks evaluate as their modules do, bit for bit; banner8's round the norm once instead of thrice."""

REMEMBERING = ("banner8", "graham", "wageubn", "binaryconnect", "sr")


class Net(nn.Module):
    """A residual block, a pooled vector, a linear block and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNormAct(3, 8, 3, to_trunk=True)
        self.branch = Branch()
        self.inner = ConvNormAct(8, 8, 3)
        self.outer = ConvNormAct(8, 8, 3, to_trunk=True)
        self.hidden = LinearNormAct(8, 12)
        self.last = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.first(x)
        y: Tensor = self.outer(self.inner(self.branch(trunk)), trunk)
        logits: Tensor = self.last(self.hidden(y.mean((2, 3))))
        return logits


def images(seed: int = 1) -> Tensor:
    x = torch.randn(64, 3, 7, 6, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def built(method: str, seed: int = 0) -> Converted:
    """Trained a few steps' worth of statistics, in evaluation."""
    torch.manual_seed(seed)
    net = Net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    converted = convert(net, find_method(method).build({}), arithmetic="integer")
    converted.clock.total_steps = 10
    with torch.no_grad():
        for step in range(3):
            converted.model.train()(images(step) + seed)
    converted.model.eval()
    return converted


@torch.no_grad()
def evaluated(converted: Converted, x: Tensor | None = None) -> Tensor:
    return materialised(converted.model(images() if x is None else x)).clone()  # type: ignore[no-any-return]


def unfused(converted: Converted) -> Converted:
    for module in converted.model.modules():
        if isinstance(module, QuantizedConvNormAct | QuantizedLinearNormAct):
            module.levels = module.direct = None
    return converted


@pytest.mark.parametrize("method", FUSED)
def test_fused_blocks_evaluate_as_their_modules(method: str) -> None:
    fused = built(method)
    with torch.no_grad():
        assert isinstance(fused.model.first(images()), Deferred)  # type: ignore[operator]
    assert torch.equal(evaluated(fused), evaluated(unfused(built(method))))


@pytest.mark.parametrize("method", FUSED)
def test_watchers_are_shown_the_floats(method: str) -> None:
    converted, seen = built(method), set[str]()

    def watch(site: Site, q: QTensor, exact: Tensor) -> None:
        assert q.codes.shape == exact.shape
        seen.add(site.name)

    expected = evaluated(converted)
    for site in converted.sites():
        site.watcher = watch
    assert torch.equal(evaluated(converted), expected)
    backward = ("error", "gradient")
    forward = {site.name for site in converted.sites() if not site.name.endswith(backward)}
    assert seen == forward and forward


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_with_gradients_differs_in_no_more_than_roundings(method: str) -> None:
    converted = built(method)
    found, expected = evaluated(converted), materialised(converted.model(images())).detach()
    # banner8 rounds its norm's line once in one of them, so a code may lie one step of 1/255 of its range apart.
    assert (found - expected).norm() <= (0.02 if method == "banner8" else 1e-6) * expected.norm()


@pytest.mark.parametrize("method", REMEMBERING)
def test_nan_is_not_hidden(method: str) -> None:
    converted, x = built(method), images()
    x[3, 1, 2, 2] = torch.nan
    assert evaluated(converted, x)[3].isnan().all()
    assert evaluated(converted).isfinite().all()


@pytest.mark.parametrize("layer", ["first.conv", "inner.conv", "outer.conv", "hidden.linear", "last"])
def test_nan_in_a_weight_is_not_hidden(layer: str) -> None:
    converted = built("banner8")
    assert evaluated(converted).isfinite().all()
    with torch.no_grad():
        converted.model.get_submodule(layer).weight[1, 1] = torch.nan  # type: ignore[union-attr,operator]
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("norm", ["first.norm", "inner.norm", "outer.norm", "hidden.norm"])
def test_nan_in_a_norm_is_not_hidden(norm: str, parameter: str) -> None:
    converted = built("banner8")
    with torch.no_grad():
        getattr(converted.model.get_submodule(norm), parameter)[3] = torch.nan
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_loaded_weights(method: str) -> None:
    converted, other = built(method), built(method, seed=1)
    before = evaluated(converted)
    converted.model.load_state_dict(other.model.state_dict())
    assert torch.equal(evaluated(converted), evaluated(other))
    assert not torch.equal(evaluated(converted), before)


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_training(method: str) -> None:
    """Also where the update is one that PyTorch does not see."""
    converted = built(method)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd", lr=0.5))
    before = evaluated(converted)
    converted.model.train()
    materialised(converted.model(images(4))).square().sum().backward()
    optimizer.step()
    for parameter in converted.model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.25)
    converted.model.eval()
    after = evaluated(converted)
    assert not torch.equal(after, before)
    assert torch.equal(after, evaluated(fresh(converted)))


def fresh(converted: Converted) -> Converted:
    """The same, as if it had evaluated nothing yet."""
    for module in converted.model.modules():
        for owner in (module, *(getattr(module, name, None) for name in ("fused", "levels", "direct"))):
            if hasattr(owner, "_evaluated"):
                owner._evaluated.forget()  # type: ignore[union-attr]
    return converted


def test_a_value_is_made_once_for_the_same_tensors() -> None:
    made: list[float] = []
    source, remembered = torch.ones(2), Remembered[float]()

    def total() -> float:
        made.append(float(source.sum()))
        return made[-1]

    assert [remembered.get([source], total) for _ in range(3)] == [2.0] * 3
    source.add_(1)
    assert remembered.get([source], total) == 4.0
    remembered.forget()
    assert remembered.get([source], total) == 4.0
    assert made == [2.0, 4.0, 4.0]


def test_tensors_that_count_no_changes_are_read_every_time() -> None:
    with torch.inference_mode():
        source = torch.ones(2)
        remembered = Remembered[float]()
        assert remembered.get([source], lambda: float(source.sum())) == 2.0
        source.add_(1)
        assert remembered.get([source], lambda: float(source.sum())) == 4.0
