"""Activations that blocks hand on as codes, in the hands of others: who looks at them, and at their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qbench import find_method
from qbench.nn import ConvNormAct, convert, gradient_sink
from qbench.nn.deferred import Deferred

METHODS = ("banner8", "wageubn", "graham", "wage")
"""Those whose blocks defer their outputs."""

Look = Callable[[Tensor], Any]
Wrap = Callable[[nn.Module, Tensor], Tensor]


def as_it_is(module: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = module(x)
    return y


class Network(nn.Module):
    """Two blocks in a row, a residual addition, pooling and a layer. look: at the blocks' outputs; wrap: calls the
    inner modules."""

    def __init__(self, look: Look, wrap: Wrap) -> None:
        super().__init__()
        self.first, self.inner = ConvNormAct(3, 8, 3, to_trunk=True), ConvNormAct(8, 8, 3)
        self.outer, self.pool = ConvNormAct(8, 8, 3, to_trunk=True), nn.MaxPool2d(2)
        self.next, self.last = ConvNormAct(8, 8, 3), nn.Conv2d(8, 4, 1)
        self.look, self.wrap = look, wrap

    def forward(self, x: Tensor) -> Tensor:
        self.stream = self.first(x)
        self.look(self.stream)
        inner = self.wrap(self.inner, self.stream)
        self.look(inner)
        y = self.wrap(self.pool, self.outer(inner, self.stream))
        z: Tensor = self.last(self.wrap(self.next, y))
        return z


def spread_out(model: nn.Module) -> nn.Module:
    """With weights that do not all round to the 0 of a ternary grid."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, -1, 1)
    return model


def network(method: str, look: Look = lambda x: None, wrap: Wrap = as_it_is) -> tuple[Network, Tensor, Tensor]:
    """The model, its input and its loss."""
    torch.manual_seed(0)
    model = convert(spread_out(Network(look, wrap)), find_method(method).build({})).model
    assert isinstance(model, Network)
    x = torch.randn(4, 3, 8, 8, requires_grad=True)
    y = model(x)
    assert isinstance(model.stream, Deferred)
    return model, x, (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum()


def gradients(method: str, **options: Any) -> list[Tensor | None]:
    model, x, loss = network(method, **options)
    loss.backward()
    return [x.grad, *(parameter.grad for parameter in model.parameters())]


def assert_equal(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one, other)


LOOKS: dict[str, Look] = {
    "detach": lambda h: h.detach(), "view": lambda h: h.flatten(1), "part": lambda h: h[0], "number": lambda h: h.max(),
}  # fmt: skip


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, nullcontext])
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("method", METHODS)
def test_who_looks_without_gradients_takes_none_away(method: str, look: str, mode: Callable[[], Any]) -> None:
    def looked(h: Tensor) -> None:
        with mode():
            LOOKS[look](h)

    assert_equal(gradients(method, look=looked), gradients(method))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_gradient_checkpointing_changes_no_gradient(method: str, reentrant: bool) -> None:
    def wrapped(module: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = checkpoint(module, x, use_reentrant=reentrant)  # type: ignore[no-untyped-call]
        return y

    assert_equal(gradients(method, wrap=wrapped), gradients(method))


def by_hook(stream: Tensor, loss: Tensor) -> Tensor:
    stream.retain_grad()
    loss.backward()
    assert stream.grad is not None
    return stream.grad


def by_inputs(stream: Tensor, loss: Tensor) -> Tensor | None:
    loss.backward(inputs=[stream])
    with torch._C.DisableTorchFunctionSubclass():
        return stream.grad


def by_node(stream: Tensor, loss: Tensor) -> Tensor:
    seen: list[Tensor] = []
    assert stream.grad_fn is not None
    stream.grad_fn.register_prehook(lambda gradients: seen.append(gradients[0]))
    loss.backward()
    return seen[0]


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor | None]] = {
    "inputs": by_inputs,
    "node": by_node,
    "grad": lambda stream, loss: torch.autograd.grad(loss, stream)[0],
    "edge": lambda stream, loss: torch.autograd.grad(loss, torch.autograd.graph.get_gradient_edge(stream))[0],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_deferred_activations_can_be_asked_for(method: str, way: str) -> None:
    found, expected = (ask(*pair(method)) for ask in (WAYS[way], by_hook))
    assert_equal([found], [expected])
    assert expected is not None and expected.std() > 0


@pytest.mark.parametrize("method", METHODS)
def test_gradients_can_be_asked_for_without_a_word(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch before 2.11 does in ``backward(inputs=...)``."""
    monkeypatch.setattr(gradient_sink, "ASKS_SILENTLY", True)
    stream, loss = pair(method)
    torch.autograd.graph._engine_run_backward(
        (loss,), (torch.ones(()),), False, False, (stream,), allow_unreachable=True, accumulate_grad=True
    )
    with torch._C.DisableTorchFunctionSubclass():
        found = stream.grad
    assert_equal([found], [by_hook(*pair(method))])


def pair(method: str) -> tuple[Tensor, Tensor]:
    """An activation that two blocks read, and the loss."""
    model, _, loss = network(method)
    return model.stream, loss


@pytest.mark.parametrize("method", METHODS)
def test_values_read_after_the_backward_pass_are_those_of_the_forward_pass_or_refused(method: str) -> None:
    """Banner8's backward pass overwrites the codes that they come from."""
    values = list[Tensor]()
    model, _, loss = network(method, look=lambda h: values.append(h.clone()))
    loss.backward()
    if method == "banner8":
        with pytest.raises(RuntimeError, match="after the backward pass overwrote its codes: ask before"):
            model.stream.detach()
    else:
        assert torch.equal(model.stream.detach(), values[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_values_do_not_follow_later_changes_of_parameters(method: str, training: bool) -> None:
    """A student is compared with itself before a step, a difference quotient taken."""
    model, x, _ = network(method)
    with torch.no_grad():
        stream, early = (model.train(training).first(x.detach()) for _ in range(2))
        assert isinstance(stream, Deferred)
        expected = early.clone()
        for parameter in model.parameters():
            parameter.mul_(1.5)
        assert torch.equal(stream.detach(), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_plain_tensor_made_of_one_has_its_values_and_its_gradient(method: str) -> None:
    model, x, _ = network(method)
    found, expected = model.stream.as_subclass(Tensor), model.stream.clone()
    assert type(found) is Tensor and torch.equal(found, expected) and not found.isnan().any()
    assert_equal(*(torch.autograd.grad(y.sum(), x, retain_graph=True) for y in (found, expected)))
