"""Records the operators of a training step."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from qbench.kernels import library
from qbench.kernels.random import MASK
from qbench.nn.backward_pass import OUTSIDE, backward_pass
from qbench.train.replay.asides import Asides

FOLLOWING_AUTOGRAD = (torch.ops.aten.mkldnn_rnn_layer.default,)
"""Operators that leave results out where autograd is off, as it is for a tape."""

UNFORESEEABLE = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Tags of operators whose results, or their shapes, depend on a tensor's values."""

IMAGES, LABELS = 0, 1
"""Places of the batch."""

Place = int
"""Where a tape keeps an operand: a tensor of the step, or anything that is the same in every step."""

Layouts = dict[tuple[object, ...], Place]
"""The places of tensors in one storage, by how they lie in it."""


SUM = torch.ops.aten.add.Tensor

EMPTY = (torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default, torch.ops.aten.empty_strided.default)
"""Operators that do nothing but to allocate."""


class UnrepeatableError(Exception):
    """A step cannot be run again from a tape. Its message says why."""


class Entry(NamedTuple):
    """An operator that was called. operands: the places of its arguments, those that have a name last; results: of what
    it returns, a place for one tensor, places for several, None for nothing. has_effects: it changes its operands or
    draws random numbers, or may, for all that its schema says: batch norm's hides that it moves the statistics."""

    function: Callable[..., Any]
    operands: tuple[Place, ...]
    names: tuple[str, ...] = ()
    results: Place | tuple[Place, ...] | None = None
    has_effects: bool = False

    @property
    def made(self) -> tuple[Place, ...]:
        """The places of all results."""
        results = self.results
        return () if results is None else (results,) if isinstance(results, int) else results


class Yielded(NamedTuple):
    """What the step hands out between two operators: the loss, or the gradient of ``parameter``."""

    place: Place
    parameter: Tensor | None

    @property
    def operands(self) -> tuple[Place, ...]:
        return (self.place,)

    @property
    def made(self) -> tuple[Place, ...]:
        return ()

    @property
    def has_effects(self) -> bool:
        return True


class RandomKey(NamedTuple):
    """The operand ``place`` is [seed, tensor, step, generator] of random bits, whose step is that of the replay."""

    place: Place
    seed: int
    tensor: int
    generator: int


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator of a training step that runs while it is active.

    refusal: why the step cannot be run again from its tape; empty where it can. beside: for the place of a tensor, all
    places in the same storage.
    """

    def __init__(self, step: int, images: Tensor, labels: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refusal = ""
        self.step = step
        self.entries: list[Entry | Yielded] = []
        self.operands: list[Any] = []
        self.keys: list[RandomKey] = []
        # By storage, which is not held here: the step's memory is freed as it would have been.
        self._places: MutableMapping[torch.UntypedStorage, Layouts] = WeakIdKeyDictionary()
        self.beside: dict[Place, Layouts] = {}
        self._asides = Asides()
        for tensor in (images, labels):
            self._made(tensor)
        if len(self._places) < 2:
            self.refusal = "images and labels share memory"
        if images.requires_grad or labels.requires_grad:
            self.refusal = "the batch gets a gradient"

    def __enter__(self) -> Recorder:
        self._asides.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._asides.__exit__(*exception)
        self.refusal = self.refusal or self._asides.found

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and note it."""
        kwargs = kwargs or {}
        if self.refusal or func.namespace == "profiler":
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():  # what an operator does with memory is its own affair
            self._asides.look_at_state()
            result = self._noted(func, args, kwargs)
            self._asides.expect_state()
        return result

    def _noted(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        operands = tuple(self._place_of(x) for x in (*args, *kwargs.values()))
        function = self._own(func, args, operands) if func.namespace == library.NAMESPACE else func
        if func in FOLLOWING_AUTOGRAD:
            self.refusal = f"{func} gives something else without autograd"
        result = func(*args, **kwargs)
        if func is SUM and _lies_otherwise(result, *args, **kwargs):
            function, result = added_up, added_up(*args)
        results = self._results(func, result)
        is_kernel = func.namespace == library.NAMESPACE and not func._schema.is_mutable
        is_view = func.is_view or func in EMPTY
        if not is_view or results not in operands:  # else another name for the same memory
            self.entries.append(Entry(function, operands, tuple(kwargs), results, not (is_kernel or is_view)))
        return result

    def constants(self) -> list[Tensor]:
        """The tensors that no operator of the step made, but for the batch."""
        return [x for x in self.operands if isinstance(x, Tensor)]

    def parameters(self) -> list[Tensor]:
        """Those whose gradients the step hands out."""
        return [entry.parameter for entry in self.entries if isinstance(entry, Yielded) and entry.parameter is not None]

    def yield_loss(self, loss: Tensor) -> None:
        """Note that ``loss`` is the step's."""
        self._yield(loss, None)

    def yield_gradient(self, parameter: Tensor) -> None:
        """Note that the gradient of ``parameter`` is complete."""
        assert parameter.grad is not None
        self._yield(parameter.grad, parameter)

    def _yield(self, tensor: Tensor, parameter: Tensor | None) -> None:
        place = self._known(tensor)
        if place is None:
            self.refusal = self.refusal or "the loss or a gradient comes from no operator"
        else:
            self.entries.append(Yielded(place, parameter))

    def _new(self, operand: Any) -> Place:
        self.operands.append(operand)
        return len(self.operands) - 1

    def _place_of(self, x: Any) -> Place:
        """Where the operand ``x`` is; one that no operator made is there from the start."""
        if isinstance(x, Tensor):
            place = self._known(x)
            if place is None:
                place = self._made(x)
                self.operands[place] = x
            return place
        if isinstance(x, (list, tuple)) and any(isinstance(item, Tensor) for item in x):
            entry = Entry(listed, tuple(self._place_of(item) for item in x), results=self._new(None))
            self.entries.append(entry)
            return entry.made[0]
        if isinstance(x, torch.Generator):  # anybody may seed it between two steps
            self.refusal = "an operator draws from a generator of its own"
        return self._new(list(x) if isinstance(x, (list, tuple)) else x)

    def _results(self, func: Any, result: Any) -> Place | tuple[Place, ...] | None:
        if result is None:
            return None
        results = result if isinstance(result, (list, tuple)) else (result,)
        is_told = any(tag in func.tags for tag in UNFORESEEABLE)
        if is_told or not all(x is None or isinstance(x, Tensor) for x in results):
            self.refusal = f"{func} tells Python what is in a tensor"
            return None
        places = tuple(self._new(None) if x is None else self._made(x) for x in results)
        return places[0] if isinstance(result, Tensor) else places

    def _known(self, x: Tensor) -> Place | None:
        """The place of what lies where ``x`` does."""
        if x.layout is not torch.strided:
            return None
        return self._places.get(x.untyped_storage(), {}).get(layout(x))

    def _made(self, x: Tensor) -> Place:
        """The place of a result; that of an operand in whose memory it lies in the same way."""
        if x.layout is not torch.strided:
            self.refusal = f"a tensor is {x.layout}"  # which may have several storages, or none
            return self._new(None)
        layouts = self._places.setdefault(x.untyped_storage(), {})
        place = layouts.setdefault(layout(x), self._new(None))
        self.beside[place] = layouts
        return place

    def _own(self, func: Any, args: Sequence[Any], operands: Sequence[Place]) -> Callable[..., Any]:
        """The function behind one of qbench's operators, whose random keys are noted."""
        for argument, words, place in zip(func._schema.arguments, args, operands, strict=True):
            if argument.name.endswith("key") and words is not None:
                seed, tensor, step, generator = words
                if step != self.step & MASK:
                    self.refusal = f"{func} draws random bits of another step"
                self.keys.append(RandomKey(place, seed, tensor, generator))
                self.operands[place] = None
        return getattr(library.ops, func.overloadpacket.__name__)  # type: ignore[no-any-return]


def require_same(first: Recorder, second: Recorder) -> None:
    """Raises :class:`UnrepeatableError` where two steps were not the same but for the batch and the random keys."""
    refusal = first.refusal or second.refusal
    if refusal:
        raise UnrepeatableError(refusal)
    for mine, other in zip_longest(first.entries, second.entries):
        if mine != other:
            raise UnrepeatableError(f"one step runs {_name(mine)} where the next one runs {_name(other)}")
        if not all(_is_same(first.operands[place], second.operands[place]) for place in mine.operands):
            raise UnrepeatableError(f"an operand of {_name(mine)} changes from step to step")
    if first.keys != second.keys:
        raise UnrepeatableError("random bits are of other tensors in the next step")


def _name(entry: Entry | Yielded | None) -> str:
    return str(entry.function) if isinstance(entry, Entry) else "out" if entry is None else "on to a gradient"


def layout(x: Tensor) -> tuple[object, ...]:
    """How ``x`` lies in its storage, and how it is read from there."""
    return x.storage_offset(), x.shape, x.stride(), x.dtype, x.device, x.is_conj(), x.is_neg()


def added_up(a: Tensor, b: Tensor) -> Tensor:
    """``a + b``, which lies in memory as ``a`` does.

    Autograd adds gradients up in place, in the one that came first, but not while a mode sees its operators. The sum's
    strides then differ where those of an image of one channel are open, and float norms' sums have another order.
    """
    return (a + b).as_strided_(a.shape, a.stride())


def _lies_otherwise(total: Tensor, a: Tensor, b: Tensor | float, **kwargs: Any) -> bool:
    """Whether ``total`` is a sum of two gradients that has other strides than the first, though those would do."""
    return (
        backward_pass() != OUTSIDE
        and not kwargs
        and isinstance(b, Tensor)
        and a.shape == b.shape
        and total.dtype == a.dtype
        and total.stride() != a.stride()
        and _is_dense(a)
    )


def _is_dense(x: Tensor) -> bool:
    """Whether the elements of ``x`` fill its memory without gaps or overlaps, in any order."""
    return torch.empty_like(x).stride() == x.stride()


def listed(*tensors: Tensor) -> list[Tensor]:
    """Operands that an operator takes as one list."""
    return list(tensors)


def _is_same(a: Any, b: Any) -> bool:
    """Whether two operands are: tensors if they lie in the same memory, all else if it is equal."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.data_ptr() == b.data_ptr() and layout(a) == layout(b)
    if type(a) is not type(b):
        return False
    return repr(a) == repr(b) if isinstance(a, float) else bool(a == b)
