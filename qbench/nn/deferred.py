"""Activations that are a function of what is kept anyway, computed only where somebody needs them.

A norm on codes gives y = slope * value(code) + offset per channel, then perhaps ReLU. The next layer quantises y at
once, so the float y need never exist: :class:`Deferred` stands for it in the graph, with its shape and its gradient,
and carries a :class:`View` of the codes, or a :class:`DirectView` of a float tensor that a norm rounds to its grid, or
an activation :class:`Coded` already, or, where a residual stream needs floats, values :class:`Held` for a while.
Whoever treats it as an ordinary tensor gets the float values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from qbench.nn.gradient_sink import GradientSink
from qbench.nn.views import Held, Source, changes_of

T = TypeVar("T", bound=Tensor)

_ATTRIBUTES = ("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_leaf", "is_cuda", "grad")
_OBSERVERS: frozenset[Any] = frozenset([Tensor.retain_grad, Tensor.register_hook, cast(Any, Tensor).grad_fn.__get__])
"""Ways to look at its gradient, which then has to pass as a tensor."""

_DIFFERENTIATORS: frozenset[Any] = frozenset([torch.autograd.grad, torch.autograd.backward])
"""They are told to look at it by their arguments."""

_METADATA: frozenset[Any] = _OBSERVERS.union(
    [getattr(Tensor, name).__get__ for name in _ATTRIBUTES],
    [Tensor.dim, Tensor.size, Tensor.numel, Tensor.__len__, Tensor.is_floating_point],
)
"""What can be asked of a deferred activation without computing it."""


class Deferred(Tensor):
    """A tensor of the graph whose values are a view; its own storage is one NaN, shown under its shape. That is what
    ``torch.tensor(h)``, ``torch.vmap`` and ``torch.utils.dlpack.to_dlpack`` see, which take memory as it is and ask
    nobody; ``h.clone()`` is a tensor for them, and for a checkpoint within a checkpoint: when the outer is repeated,
    PyTorch makes a view of what the inner one was given, as it did not before, so that other tensors are kept.

    sink: of its producer, where that can make use of it; None otherwise. tensor: what it is since its values were
    changed in place, as by ``h.mul_(2)`` and ``h[0] = 0``, or a view of them was made that can be; None before.
    """

    source: Source
    sink: GradientSink | None
    tensor: Tensor | None = None

    def as_subclass(self, cls: type[T]) -> T:
        """As a tensor's own, which asks nobody."""
        return materialised(self).as_subclass(cls)  # type: ignore[no-any-return]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        first, kwargs = args[0] if args else None, kwargs or {}
        if func in _DIFFERENTIATORS:
            args, kwargs = tree_map(observed, (args, kwargs))
        if func in _DIFFERENTIATORS or (func in _METADATA and is_deferred(first)):
            if func in _OBSERVERS:
                observed(first)
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        made = list[tuple[Deferred, Tensor, int | None]]()

        def values_of(x: Any) -> Any:
            if not isinstance(x, Deferred):
                return x
            # They may stay what the activation is, and others want its gradient: whoever asks first may not.
            with torch.inference_mode(False), torch.enable_grad():
                values = materialised(x)
            made.append((x, values, changes_of(values)))
            return values

        args, kwargs = tree_map(values_of, (args, kwargs))
        result = func(*args, **kwargs)
        for deferred, values, before in made:
            if changes_of(values) != before or func is Tensor.__setitem__ or shares_memory(result, values):
                deferred.tensor = values
        return result


def defer(token: Tensor, source: Source, sink: GradientSink | None = None) -> Deferred:
    """``token``, a node's output, as the activation whose values come from ``source``."""
    deferred = token.as_subclass(Deferred)  # type: ignore[arg-type]
    deferred.source = source
    # Without a graph, the node that may yet be put in front of it knows nothing of the sink.
    deferred.sink = sink if token.requires_grad else None
    if deferred.sink is not None:
        deferred.sink.serve(deferred)
    return deferred


def is_deferred(x: Any) -> TypeGuard[Deferred]:
    """Whether ``x`` is a deferred activation as its block made it."""
    return isinstance(x, Deferred) and x.tensor is None


def observed(x: Any) -> Any:
    """``x`` as it is in the graph now; if it is a deferred activation, its gradient passes as a tensor from now on."""
    if not isinstance(x, Deferred):
        return x
    if x.sink is not None:
        x.sink.is_open = False
    return x if x.tensor is None else x.tensor


def shares_memory(result: Any, values: Tensor) -> bool:
    """Whether a tensor among what a function returned lies in the memory of ``values``."""
    tensors = (one for one in tree_leaves(result) if isinstance(one, Tensor) and one.layout == torch.strided)
    return any(one.untyped_storage().data_ptr() == values.untyped_storage().data_ptr() for one in tensors)


def token_of(deferred: Deferred) -> Tensor:
    """The plain tensor that stands for it in the graph."""
    with torch._C.DisableTorchFunctionSubclass():
        return Tensor.as_subclass(deferred, Tensor)  # type: ignore[arg-type]


def parted(x: Tensor | None) -> tuple[Any, Source | None]:
    """What stands for an activation in the graph, and where its values come from if not from that."""
    return (token_of(x), x.source) if is_deferred(x) else (materialised(x), None)


def sink_of(x: Tensor | None) -> GradientSink | None:
    """Where a consumer of the activation may leave its part of the gradient; None where it has to send a tensor."""
    return x.sink if is_deferred(x) else None


def done_with(x: Tensor) -> None:
    """Say that the caller reads ``x`` no more for now: values that can be computed again are not kept for its sake
    where a quantiser's codes serve the next reader."""
    if is_deferred(x) and isinstance(x.source, Held) and x.source.known:
        x.source.release()


def materialised(x: Any) -> Any:
    """The float values of a deferred activation, linked into the graph; anything else as it is."""
    if not isinstance(x, Deferred):
        return x
    if x.tensor is not None:
        return x.tensor
    return _Materialise.apply(token_of(x), x.source)  # type: ignore[no-untyped-call]


class _Materialise(torch.autograd.Function):
    """The identity, as far as gradients are concerned: the ReLU's mask is applied where the view was made."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, source: Source) -> Tensor:
        return source.values()[0].detach()  # another tensor: this node's, where held values belong to none

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grads[0], None
