"""Activations that are a function of what is kept anyway, computed only where somebody needs them.

A norm on codes gives y = slope * value(code) + offset per channel, then perhaps ReLU. The next layer quantises y at
once, so the float y need never exist: :class:`Deferred` stands for it in the graph, with its shape and its gradient,
and carries a :class:`View` of the codes, or a :class:`DirectView` of a float tensor that a norm rounds to its grid, or,
where a residual stream needs floats, values :class:`Held` for a while. Whoever treats it as an ordinary tensor gets the
float values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from qbench.kernels import passes
from qbench.kernels.checks import GRADIENT_CODES, dense
from qbench.kernels.direct import direct_view, encode_direct_view
from qbench.kernels.packing import pack_bits, unpack_bits
from qbench.kernels.pooling import Pooled
from qbench.kernels.random import Key
from qbench.quant.formats import Affine, Direct
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import code_type, random_bits
from qbench.quant.ranges import Range

PACKED_BITS = 4
"""Codes of at most this many bits share bytes."""

NOTHING = torch.empty(0)
"""Where a description has no tensor."""


@dataclass(frozen=True)
class View:
    """max(slope * t(code) + offset, 0) per channel, without the max where there is no ReLU.

    stored: the codes, uint8, channels-last, packed where ``bits`` <= 4. shape: of the codes, [N, C, H, W] or [N, C].
    slope, offset: float32 [C]. table: t, float32 [2^bits]; None where t is the code itself.
    extremes: smallest and largest value, float32 [2]; None where they were not needed.
    """

    stored: Tensor
    shape: torch.Size
    bits: int
    slope: Tensor
    offset: Tensor
    relu: bool
    extremes: Tensor | None = None
    table: Tensor | None = None

    @property
    def codes(self) -> Tensor:
        """The codes, one per byte."""
        return stored_codes(self.stored, self.bits, self.shape)

    def values(self, trunk: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(values float32, their extremes [2], bits [value > 0] of a ReLU); ``trunk`` is added before the ReLU."""
        if self.table is None:
            return passes.affine_view(self.codes, self.slope, self.offset, self.relu, trunk)
        return passes.level_view(self.codes, self.table, self.slope, self.offset, self.relu, trunk)

    def encode(self, spec: Affine, limits: Range, key: Key) -> QTensor:
        """The values as affine codes, in one pass over the codes."""
        assert self.table is None
        codes, scale, zero_point = passes.encode_affine_view(
            self.codes, self.slope, self.offset, self.relu, *limits,
            spec.bits, spec.scheme == "zero_point", random_bits(spec, key), None, None,
        )  # fmt: skip
        return QTensor(codes, scale, zero_point, spec)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What has to be kept to rebuild the view."""
        return self.stored, self.slope, self.offset, self.extremes, self.table

    def rebuilt(self, tensors: Sequence[Any]) -> View:
        """The same view of tensors that autograd kept."""
        stored, slope, offset, extremes, table = tensors
        return View(stored, self.shape, self.bits, slope, offset, self.relu, extremes, table)

    def description(self) -> View:
        """Itself without its tensors."""
        return View(NOTHING, self.shape, self.bits, NOTHING, NOTHING, self.relu)

    def parts(self, count: int) -> Iterator[View]:
        """The view of about ``count`` parts of the batch, one after another."""
        for some in in_parts(self.codes, count):
            yield replace(self, stored=some, shape=some.shape, bits=8)


@dataclass(frozen=True)
class DirectView:
    """max(slope * t + offset, 0) per channel with t = clip(round((x - mean) * inverse * unit), -top, top), without the
    max where there is no ReLU.

    x: float32, [N, C, H, W] or [N, C]. mean, inverse, slope, offset: float32 [C].
    """

    x: Tensor
    mean: Tensor
    inverse: Tensor
    unit: float
    top: float
    slope: Tensor
    offset: Tensor
    relu: bool

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, float, float, Tensor, Tensor, bool]:
        """As the functions of :mod:`qbench.kernels.direct` take them."""
        return self.x, self.mean, self.inverse, self.unit, self.top, self.slope, self.offset, self.relu

    def values(self, trunk: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(values float32, bits [value > 0] of a ReLU); ``trunk`` is added before the ReLU."""
        return direct_view(*self.arguments, trunk)

    def encode(self, spec: Direct) -> QTensor:
        """The values on a direct grid, to nearest, in one pass over ``x``."""
        top = spec.largest_integer
        codes, scale = encode_direct_view(*self.arguments, 2.0 ** (1 - spec.bits), -top, top, code_type(spec))
        return QTensor(codes, scale, None, spec)

    def tensors(self) -> tuple[Tensor, ...]:
        """What has to be kept to rebuild the view."""
        return self.x, self.mean, self.inverse, self.slope, self.offset

    def rebuilt(self, tensors: Sequence[Any]) -> DirectView:
        """The same view of tensors that autograd kept."""
        x, mean, inverse, slope, offset = tensors
        return DirectView(x, mean, inverse, self.unit, self.top, slope, offset, self.relu)

    def description(self) -> DirectView:
        """Itself without its tensors."""
        return self.rebuilt([NOTHING] * 5)

    def parts(self, count: int) -> Iterator[DirectView]:
        """The view of about ``count`` parts of the batch, one after another."""
        for some in in_parts(self.x, count):
            yield replace(self, x=some)


AnyView = View | DirectView


def changes_of(x: Tensor) -> int | None:
    """How often ``x`` was changed in place; None for a tensor of ``torch.inference_mode``, which counts no changes."""
    return None if x.is_inference() else x._version


class Held:
    """Float values that are held while they are wanted, and computed again from codes where they are asked for later.

    A residual stream has to be a float tensor while something is added to it or a product reads it; between these times
    its values need no memory. values: float32, [N, C, H, W] or [N, C]. extremes: of them, float32 [2]; None where they
    were not needed. again: computes them anew, the same bit for bit; None where nothing else knows them, which are
    then held for good. known: what quantisers found for them; kept also when the values are not.
    """

    def __init__(self, values: Tensor, extremes: Tensor | None, again: Callable[[], Tensor] | None) -> None:
        self.shape = values.shape
        self.extremes = extremes
        self.known = dict[Any, Any]()
        self._again = again
        self._values: Tensor | None = values.detach()
        self._version = changes_of(values)

    @property
    def is_held(self) -> bool:
        """Whether the values exist as a tensor now."""
        return self._values is not None

    def values(self) -> tuple[Tensor]:
        """The values; not to be changed in place."""
        if self._values is not None:
            if changes_of(self._values) != self._version:
                raise RuntimeError(
                    "the values of a block's output were changed in place: change a clone, the block still reads them"
                )
            return (self._values,)
        assert self._again is not None
        return (self._again(),)

    def release(self) -> None:
        """Hold the values no longer, where they can be computed again."""
        if self._again is not None:
            self._values = None


def while_kept(view: AnyView, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """``compute``, which reads ``view``, as long as what it is a view of is as it is now."""
    source = view.tensors()[0]
    assert source is not None
    version = changes_of(source)

    def again() -> Tensor:
        if changes_of(source) != version:
            raise RuntimeError(
                "the values of a block's output were asked for after the backward pass overwrote its codes: ask before"
            )
        return compute()

    return again


Source = AnyView | Held
"""What a deferred activation's values come from."""


def in_parts(x: Tensor, count: int) -> Sequence[Tensor]:
    """The batch in about ``count`` equal parts."""
    parts: Sequence[Tensor] = torch.split(x, max(1, len(x) // count))  # type: ignore[no-untyped-call]
    return parts


def stored(codes: Tensor, bits: int) -> Tensor:
    """Codes as they are kept: packed where several fit a byte."""
    return pack_bits(codes, bits) if bits <= PACKED_BITS else codes


def stored_codes(kept: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """The inverse of :func:`stored`."""
    return unpack_bits(kept, bits, shape) if bits <= PACKED_BITS else kept


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


Part = Tensor | Pooled | QTensor
"""A consumer's part of a gradient: floats, or what is smaller and stands for floats."""


class LeftGradient:
    """Where the consumers of a deferred activation may leave their parts of the gradient instead of a tensor each: a
    kernel adds its part to what is there already, and that of a pooling layer or in codes is smaller than a tensor.

    In the graph the first of them sends zeros, one number under the activation's shape, which autograd adds to what
    others send, and the rest nothing. What a backward pass left that never came to the producer is not the next one's.
    """

    def __init__(self) -> None:
        self.is_wanted = _graph_task is not None
        self._pass = -1
        self._total: Tensor | None = None
        self._smaller: list[Pooled | QTensor] = []

    @property
    def total(self) -> Tensor | None:
        """The sum of the tensors left so far, float32 of the activation's shape, dense; None where there is none."""
        self._begin_pass()
        return self._total

    def leave(self, part: Part, shape: torch.Size) -> Tensor | None:
        """Add a part, and return what its consumer sends in place of it. shape: of the activation.

        A tensor is the left gradient's own from now on: the next part is added in its memory.
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

    def _begin_pass(self) -> None:
        if _graph_task is not None and self._pass != _graph_task():
            self._pass = _graph_task()
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
    """What :meth:`LeftGradient.taken` gave as one float tensor."""
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


_graph_task: Callable[[], int] | None = getattr(torch._C, "_current_graph_task_id", None)
"""The number of the backward pass under way. PyTorch has no public question for it; without the private one nothing is
left, and autograd adds up."""


def sent_in_codes(gradient: QTensor, left: LeftGradient | None) -> Tensor | None:
    """As :func:`sent`, in codes where it can be left."""
    if left is not None and left.is_wanted and is_scaled(gradient):
        return left.leave(gradient, gradient.codes.shape)
    return sent(gradient.dequantize(), left)


def sent(gradient: Tensor, left: LeftGradient | None) -> Tensor | None:
    """What goes through the graph for a gradient that nobody else holds: itself, or what stands for it where it is
    left."""
    return left.leave(gradient, gradient.shape) if left is not None and left.is_wanted else gradient


class Deferred(Tensor):
    """A tensor of the graph whose values are a view; its own storage is one NaN, shown under its shape.

    left: of its producer, where that can make use of it; None otherwise. tensor: what it is since its values were
    changed in place, as by ``h.mul_(2)`` and ``h[0] = 0``, or a view of them was made that can be; None before.
    """

    source: Source
    left: LeftGradient | None
    tensor: Tensor | None = None

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


def placeholder(shape: torch.Size, device: torch.device, value: float = torch.nan) -> Tensor:
    """A float32 tensor of one number under any shape: an autograd output whose values are elsewhere."""
    return _constant(value, device).expand(shape)


@cache
@torch.inference_mode(False)  # kept beyond the mode of whoever asks first
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, device=device)


def defer(token: Tensor, source: Source, left: LeftGradient | None = None) -> Deferred:
    """``token``, a node's output, as the activation whose values come from ``source``."""
    deferred = token.as_subclass(Deferred)  # type: ignore[arg-type]
    deferred.source = source
    # Without a graph, the node that may yet be put in front of it knows nothing of what is left.
    deferred.left = left if token.requires_grad else None
    return deferred


def is_deferred(x: Any) -> TypeGuard[Deferred]:
    """Whether ``x`` is a deferred activation as its block made it."""
    return isinstance(x, Deferred) and x.tensor is None


def observed(x: Any) -> Any:
    """``x`` as it is in the graph now; if it is a deferred activation, its gradient passes as a tensor from now on."""
    if not isinstance(x, Deferred):
        return x
    if x.left is not None:
        x.left.is_wanted = False
    return x if x.tensor is None else x.tensor


def shares_memory(result: Any, values: Tensor) -> bool:
    """Whether a tensor among what a function returned lies in the memory of ``values``."""
    tensors = (one for one in tree_leaves(result) if isinstance(one, Tensor) and one.layout == torch.strided)
    return any(one.untyped_storage().data_ptr() == values.untyped_storage().data_ptr() for one in tensors)


def token_of(deferred: Deferred) -> Tensor:
    """The plain tensor that stands for it in the graph."""
    with torch._C.DisableTorchFunctionSubclass():
        return deferred.as_subclass(Tensor)  # type: ignore[arg-type]


def parted(x: Tensor | None) -> tuple[Any, Source | None]:
    """What stands for an activation in the graph, and where its values come from if not from that."""
    return (token_of(x), x.source) if is_deferred(x) else (materialised(x), None)


def left_of(x: Tensor | None) -> LeftGradient | None:
    """Where a consumer of the activation may leave its part of the gradient; None where it has to send a tensor."""
    return x.left if is_deferred(x) else None


def done_with(x: Tensor) -> None:
    """Say that the caller reads ``x`` no more for now: values that can be computed again are not kept for its sake."""
    if is_deferred(x) and isinstance(x.source, Held):
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
