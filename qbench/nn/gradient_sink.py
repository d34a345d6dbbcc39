"""Gradients that the consumers of an activation leave where its producer finds them, instead of a tensor each."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import ref

import torch
from torch import Tensor

from qbench.kernels import passes
from qbench.kernels.checks import GRADIENT_CODES, dense
from qbench.kernels.constants import constant
from qbench.kernels.pooling import Pooled
from qbench.nn.backward_pass import IS_TOLD, OUTSIDE, backward_pass
from qbench.quant.qtensor import QTensor

ASKS_SILENTLY = torch.__version__ < "2.11"  # a TorchVersion
"""Whether ``backward(inputs=...)`` asks for the gradient of an activation that is told nothing of it."""

Part = Tensor | Pooled | QTensor
"""A consumer's part of a gradient: floats, or what is smaller and stands for floats."""


class GradientSink:
    """Where the consumers of a deferred activation may leave their parts of the gradient instead of a tensor each: a
    kernel adds its part to what is there already, and that of a pooling layer or in codes is smaller than a tensor.

    In the graph the first of them sends zeros, one number under the activation's shape, which autograd adds to what
    others send, and the rest nothing. What a backward pass left that never came to the producer is not the next one's.
    """

    def __init__(self) -> None:
        self.is_open = IS_TOLD  # else autograd adds up
        self._activation: ref[Tensor] | None = None
        self._pass = OUTSIDE
        self._total: Tensor | None = None
        self._smaller: list[Pooled | QTensor] = []

    def serve(self, activation: Tensor) -> None:
        """Say whose gradient it takes; the activation holds the sink."""
        if ASKS_SILENTLY:
            self._activation = ref(activation)

    @property
    def is_wanted(self) -> bool:
        """Whether parts may be left: not where somebody looks at the gradient, which then passes as a tensor."""
        return self.is_open and not self._is_retained()

    @property
    def total(self) -> Tensor | None:
        """The sum of the tensors left so far, float32 of the activation's shape, dense; None where there is none."""
        self._begin_pass()
        return self._total

    def leave(self, part: Part, shape: torch.Size) -> Tensor | None:
        """Add a part, and return what its consumer sends in place of it. shape: of the activation.

        A tensor is the sink's own from now on: the next part is added in its memory.
        """
        self._begin_pass()
        is_first = self._total is None and not self._smaller
        if isinstance(part, Tensor):
            self._total = dense(part) if self._total is None else self._total.add_(part)
        else:
            self._smaller.append(part)
        return placeholder(shape, _floats_of(part).device, 0.0) if is_first else None

    def taken(self, sent: Tensor) -> tuple[Tensor | None, list[Pooled | QTensor]]:
        """The whole gradient, given what came through the graph, as floats, where there are any, and parts to add to
        them; forgets it."""
        self._begin_pass()
        total, smaller = self._total, self._smaller
        self._forget()
        is_zero = not any(sent.stride())  # as no consumer but a leaving one sends
        if is_zero and (total is not None or smaller):
            return total, smaller
        return (sent if total is None else sent + total), smaller

    def joined(self, sent: Tensor) -> Tensor | Pooled:
        """The whole gradient, given what came through the graph, in floats or pooled; forgets the parts."""
        total, smaller = self.taken(sent)
        if total is None and len(smaller) == 1 and isinstance(smaller[0], Pooled):
            return smaller[0]
        return added_up(total, smaller, sent.shape)

    def _is_retained(self) -> bool:
        """Whether the backward pass under way was asked for the activation's gradient without a word to it."""
        activation = None if self._activation is None else self._activation()
        if activation is None:
            return False
        with torch._C.DisableTorchFunctionSubclass():
            return activation.retains_grad

    def _begin_pass(self) -> None:
        if self._pass != backward_pass():
            self._pass = backward_pass()
            self._forget()

    def _forget(self) -> None:
        self._total, self._smaller = None, []


def _floats_of(part: Part) -> Tensor:
    """A tensor of the part, on its device."""
    return part.gradient if isinstance(part, Pooled) else part.codes if isinstance(part, QTensor) else part


def is_scaled(q: QTensor) -> bool:
    """Whether the values are codes, of a type that passes over gradients read, times one scale."""
    has_one_scale = q.scale is not None and q.scale.dim() == 0 and q.zero_point is None
    return q.is_integral and has_one_scale and q.codes.dtype in GRADIENT_CODES


def added_up(total: Tensor | None, smaller: Sequence[Pooled | QTensor], shape: torch.Size) -> Tensor:
    """What :meth:`GradientSink.taken` gave as one float tensor."""
    for part in smaller:
        if isinstance(part, QTensor):
            total = joined_codes(part, total, None)
        else:
            total = part.values(shape) if total is None else total + part.values(shape)
    assert total is not None
    return total


def joined_codes(part: QTensor, total: Tensor | None, mask: Tensor | None) -> Tensor:
    """``total`` plus ``part``, which :func:`is_scaled`, in one pass; 0 where a bit of ``mask`` is not set."""
    assert part.scale is not None
    return passes.join_gradients(part.codes, part.scale, total, mask)


def sent_in_codes(gradient: QTensor, sink: GradientSink | None) -> Tensor | None:
    """As :func:`sent`, in codes where it can be left."""
    if sink is not None and sink.is_wanted and is_scaled(gradient):
        return sink.leave(gradient, gradient.codes.shape)
    return sent(gradient.dequantize(), sink)


def sent(gradient: Tensor, sink: GradientSink | None) -> Tensor | None:
    """What goes through the graph for a gradient that nobody else holds: itself, or what stands for it where it is
    left."""
    return sink.leave(gradient, gradient.shape) if sink is not None and sink.is_wanted else gradient


def placeholder(shape: torch.Size, device: torch.device, value: float = torch.nan) -> Tensor:
    """A float32 tensor of one number under any shape: an autograd output whose values are elsewhere."""
    return constant(value, device).expand(shape)
