"""What evaluation remembers between batches follows every change."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from evaluated_models import REMEMBERING, built, evaluated, images

from qbench.nn import Converted
from qbench.nn.deferred import materialised
from qbench.nn.remembered import Remembered
from qbench.optim import build_optimizer
from qbench.train.settings import OptimizerSettings


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


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_weights_that_are_exchanged_for_others(method: str) -> None:
    """As averages of them are, between two evaluations: nothing counts what happens to ``data``."""
    converted = built(method)
    before = evaluated(converted)
    for parameter in converted.parameters():
        parameter.data.mul_(0.5).add_(0.01)
    converted.model.eval()
    after = evaluated(converted)
    assert not torch.equal(after, before)
    assert torch.equal(after, evaluated(fresh(converted)))


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_follows_updates_in_evaluation_mode(method: str, name: Literal["sgd", "adam"]) -> None:
    """PyTorch's fused rules change parameters without counting it."""
    converted = built(method)
    optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name=name, lr=0.5))
    before = evaluated(converted)
    materialised(converted.model(images(4))).square().sum().backward()
    optimizer.step()
    after = evaluated(converted)
    assert not torch.equal(after, before)
    assert torch.equal(after, evaluated(fresh(converted)))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("method", REMEMBERING)
def test_training_in_evaluation_mode_follows_every_step(method: str, own: bool) -> None:
    """PyTorch's fused optimisers change weights without counting it."""
    if own and method in ("wageubn", "sr"):
        pytest.skip("the weights have an update rule of their own")
    losses, lr = [], 1e-7 if method == "binaryconnect" else 0.05  # whose rates grow with its layers
    for forgets in (False, True):
        converted = built(method)
        if own:
            optimizer: torch.optim.Optimizer = torch.optim.SGD(converted.parameters(), lr, fused=True)
        else:
            optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(lr=lr))
        for _ in range(3):
            loss = materialised((fresh(converted) if forgets else converted).model(images())).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        losses.append(evaluated(fresh(converted) if forgets else converted).square().mean().item())
    assert losses[:4] == losses[4:] and losses[3] < losses[2] < losses[1] < losses[0]


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


def test_nothing_is_remembered_behind_a_step_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replays change weights unseen."""
    source, remembered = torch.ones(2), Remembered[float]()
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        remembered.forget()
    assert remembered.get([source], lambda: float(source.sum())) == 2.0
    source.data.add_(1)
    assert remembered.get([source], lambda: float(source.sum())) == 4.0


def test_another_tensor_in_the_same_memory_is_another() -> None:
    remembered, memory = Remembered[float](), bytearray(8)
    for number in range(3):
        torch.frombuffer(memory, dtype=torch.float32).fill_(number)
        source = torch.frombuffer(memory, dtype=torch.float32)
        assert remembered.get([source], source.mean().item) == number


@pytest.mark.parametrize("method", [method for method in REMEMBERING if method != "sr"])
def test_evaluation_follows_parameters_that_are_lent(method: str) -> None:
    converted, fitting = built(method), built(method)
    for number in range(10):
        lent = {name: p.detach() * (1 + number) for name, p in converted.model.named_parameters()}
        with torch.no_grad():
            found = torch.func.functional_call(converted.model, lent, images())
            for name, parameter in fitting.model.named_parameters():
                parameter.copy_(lent[name])
        assert torch.equal(found, evaluated(fitting))
        del lent


def test_tensors_that_count_no_changes_are_read_every_time() -> None:
    with torch.inference_mode():
        source = torch.ones(2)
        remembered = Remembered[float]()
        assert remembered.get([source], lambda: float(source.sum())) == 2.0
        source.add_(1)
        assert remembered.get([source], lambda: float(source.sum())) == 4.0
