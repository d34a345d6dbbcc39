"""Training steps of a converted model as CUDA graphs, which one launch on the host runs whole."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from qbench.kernels.random import steps_elapsed

if TYPE_CHECKING:
    from qbench.nn.clock import Clock
    from qbench.nn.convert import Converted

T = TypeVar("T")

WARM_UP = 3
"""Steps before a capture: kernels are compiled, libraries choose theirs, and ranges have their first values."""


class CapturedStep(Generic[T]):
    """What a training step of a converted model launches on a CUDA device, captured and replayed as one graph.

    >>> captured = CapturedStep(converted, forward_and_backward)  # a function without arguments
    >>> for step in range(steps):
    ...     converted.clock.step = step
    ...     images.copy_(batch)  # the tensors that it reads stay where they are
    ...     loss = captured.replay()
    ...     optimizer.step()

    Each replay draws the random bits of the clock's step, though their keys are arguments of the launches: the steps
    since the capture are counted on the device. What else the host decides is captured for good: numbers such as the
    learning rate, where ``step`` updates the weights itself, and whether the model trains or evaluates. No replay notes
    codes for the manifest; steps outside of the graph do.

    A replay writes the gradients anew and gives them to their parameters, whatever these had before.

    converted: its parameters lie on one CUDA device. step: the work; called ``WARM_UP`` times, which move running
    statistics and whatever else it changes, and once more for the capture, which computes nothing. result: what that
    last call returned, tensors that each replay writes anew, without a graph.

    Raises ValueError where the model is not on a CUDA device, where a loss of an earlier step is still there with its
    graph, or where something in the model follows the number of the step itself, as the limits of a batch
    renormalisation do.
    """

    result: T

    def __init__(self, converted: Converted, step: Callable[[], T]) -> None:
        self._converted = converted
        self._device = _device(converted)
        _refuse_held_graphs(converted)
        self._elapsed = torch.zeros((), dtype=torch.int32, device=self._device)
        self._scene = _scene(converted)
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with _quiet(converted.clock):
            self._warm_up(step, stream)
            for parameter in converted.model.parameters():
                parameter.grad = None  # so that the captured backward pass makes gradients, and adds to none
            self._capture(step, stream)

    def _warm_up(self, step: Callable[[], T], stream: torch.cuda.Stream) -> None:
        """On the stream of the capture, where PyTorch's libraries then have what they need."""
        current = torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                step()
        current.wait_stream(stream)

    def _capture(self, step: Callable[[], T], stream: torch.cuda.Stream) -> None:
        clock = self._converted.clock
        self._first, readings = _word(clock), clock.readings
        with steps_elapsed(self._elapsed), torch.cuda.graph(self._graph, stream=stream):
            result = step()
        # Without its graph, whose nodes would be in the way of the next capture (_refuse_held_graphs).
        self.result = tree_map_only(Tensor, Tensor.detach, result)
        del result
        self._gradients = [(p, p.grad) for p in self._converted.model.parameters() if p.grad is not None]
        if clock.readings != readings:
            raise ValueError(
                "the step cannot be captured: something in it follows the number of the step (a norm whose limits "
                "change during training, for example); run it without a graph"
            )

    def replay(self) -> T:
        """Run the step at the clock's present step, without waiting for it.

        Raises ValueError where seed, generator or the model's mode are not those of the capture.
        """
        if _scene(self._converted) != self._scene:
            raise ValueError(
                "the captured step is of another seed, another generator or another mode (training, evaluation) than "
                "the model has now: capture it again"
            )
        self._elapsed.fill_(_signed(_word(self._converted.clock) - self._first))
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self.result


def _device(converted: Converted) -> torch.device:
    devices = {parameter.device for parameter in converted.parameters()}
    if len(devices) != 1 or next(iter(devices)).type != "cuda":
        found = ", ".join(sorted(map(str, devices))) or "nowhere"
        raise ValueError(f"a step is captured on one CUDA device, but the model's parameters lie on: {found}")
    return devices.pop()


def _refuse_held_graphs(converted: Converted) -> None:
    """Raises ValueError where a graph of an earlier step is alive.

    The node that adds up a parameter's gradient stays on the stream of the forward pass that made it, and every graph
    of the parameter shares it: one from another stream would take part of the capture there, and CUDA refuses that
    without saying where it comes from.
    """
    gc.collect()
    trained = {name: parameter for name, parameter in converted.model.named_parameters() if parameter.requires_grad}
    for parameter in trained.values():
        _accumulator(parameter).metadata["qbench"] = "held"  # gone with the node, unless somebody else holds it
    held = [name for name, parameter in trained.items() if "qbench" in _accumulator(parameter).metadata]
    if held:
        raise ValueError(
            f"a loss or an output of an earlier step is still held with its graph, which {held[0]} takes part in: "
            "delete it, or keep loss.detach(), before the step is captured"
        )


def _accumulator(parameter: Tensor) -> Any:
    """The node that adds up a parameter's gradient: its graph's, or a new one."""
    with torch.enable_grad():
        node = parameter.view_as(parameter).grad_fn
    assert node is not None
    return node.next_functions[0][0]


@contextmanager
def _quiet(clock: Clock) -> Iterator[None]:
    """Within the context the clock is at a step that notes no codes: a capture is of such a step, and what is called
    before it has to use the same kernels, because none can be compiled within."""
    before = clock.step
    clock.step = before + clock.is_noting
    try:
        yield
    finally:
        clock.step = before


def _scene(converted: Converted) -> tuple[object, ...]:
    """What a capture takes for granted."""
    clock = converted.clock
    return clock.seed, clock.generator, converted.model.training


def _word(clock: Clock) -> int:
    """The part of a key that tells steps apart."""
    return clock.key(0).step


def _signed(number: int) -> int:
    """The same modulo 2^32, as int32 holds it."""
    return (number + 2**31) % 2**32 - 2**31
