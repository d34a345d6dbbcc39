"""A training step as a tape: the operators that it ran, one after another, to be run again for another batch without
the modules, the layers' Python and autograd's graph between them.

A CUDA graph does this for a GPU. Operators, their order and their operands are those of the step that was recorded, so
the results are the same bit for bit; what is run again are operators, not instructions of a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from qbench.kernels import library
from qbench.kernels.random import MASK

UNFORESEEABLE = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
"""Tags of operators whose results, or their shapes, depend on a tensor's values."""

IMAGES, LABELS = 0, 1
"""Places of the batch."""

Gradients = Iterator[tuple[Tensor | None, Tensor]]
"""(None, loss) first, then each (parameter, gradient)."""

Place = int
"""Where a tape keeps an operand: a tensor of the step, or anything that is the same in every step."""

Layouts = dict[tuple[object, ...], Place]
"""The places of tensors in one storage, by how they lie in it."""

ADD, ADD_IN_PLACE = torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor


class UnrepeatableError(Exception):
    """A step cannot be run again from a tape. Its message says why."""


class Entry(NamedTuple):
    """An operator that was called. operands: the places of its arguments, those that have a name last; results: of what
    it returns, a place for one tensor, places for several, None for nothing."""

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
        for tensor in (images, labels):
            self._made(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operator and note it."""
        kwargs = kwargs or {}
        if func.namespace == "profiler":
            return func(*args, **kwargs)
        operands = tuple(self._place_of(x) for x in (*args, *kwargs.values()))
        function = self._own(func, args, operands) if func.namespace == library.NAMESPACE else func
        result = func(*args, **kwargs)
        results = self._results(func, result)
        has_effects = func._schema.is_mutable or torch.Tag.nondeterministic_seeded in func.tags
        if has_effects or results not in operands:  # else another name for the same memory
            self.entries.append(Entry(function, operands, tuple(kwargs), results, has_effects))
        return result

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
            self.refusal = "the loss or a gradient comes from no operator"
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
        return self._places.get(x.untyped_storage(), {}).get(layout(x))

    def _made(self, x: Tensor) -> Place:
        """The place of a result; that of an operand in whose memory it lies in the same way."""
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
    """How ``x`` lies in its storage."""
    return x.storage_offset(), x.shape, x.stride(), x.dtype, x.device


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


class Instruction(NamedTuple):
    """An entry made ready. pick: its operands from among all; dead: places that nothing reads from then on."""

    function: Callable[..., Any]
    pick: Callable[[list[Any]], Sequence[Any]]
    results: Place | tuple[Place, ...] | None
    dead: tuple[Place, ...]


@dataclass(frozen=True)
class Stretch:
    """Instructions, what is handed out behind them, and the places that nothing reads from then on. Nothing is handed
    out behind the last ones."""

    instructions: list[Instruction]
    yielded: Yielded | None
    dead: tuple[Place, ...]


class Tape:
    """A step that was recorded twice, without what has no effect on loss, gradients and buffers.

    Raises :class:`UnrepeatableError` where the two differ in more than the batch and the step of random keys.
    """

    def __init__(self, first: Recorder, second: Recorder) -> None:
        require_same(first, second)
        self._operands = list(second.operands)
        self._keys = list(second.keys)
        self._stretches = list(_stretches(second.entries, second.beside))

    def __len__(self) -> int:
        """How many operators it runs."""
        return sum(len(stretch.instructions) for stretch in self._stretches)

    def play(self, step: int, images: Tensor, labels: Tensor) -> Gradients:
        """Run the step numbered ``step`` on a batch of the recorded shapes, as far as the results are asked for: first
        (None, loss), then each (parameter, gradient) as soon as that is complete."""
        operands = self._operands.copy()
        operands[IMAGES], operands[LABELS] = images, labels
        for place, seed, tensor, generator in self._keys:
            operands[place] = [seed, tensor, step & MASK, generator]
        for stretch in self._stretches:
            _run(stretch.instructions, operands)
            if stretch.yielded is not None:
                handed_out = stretch.yielded.parameter, operands[stretch.yielded.place]
                for place in stretch.dead:
                    operands[place] = None
                yield handed_out
                del handed_out


@torch.no_grad()
def _run(instructions: Sequence[Instruction], operands: list[Any]) -> None:
    for function, pick, results, dead in instructions:
        result = function(*pick(operands))
        if isinstance(results, int):
            operands[results] = result
        elif results is not None:
            for place, one in zip(results, result, strict=True):
                operands[place] = one
        del result
        for place in dead:
            operands[place] = None


def _stretches(entries: Sequence[Entry | Yielded], beside: dict[Place, Layouts]) -> Iterator[Stretch]:
    """The entries that are needed, cut behind each that hands something out."""
    needed = _needed(entries)
    dead = _dead(needed)
    instructions = list[Instruction]()
    for entry, places in zip(_in_place(needed, beside), dead, strict=True):
        if isinstance(entry, Yielded):
            yield Stretch(instructions, entry, places)
            instructions = []
        else:
            instructions.append(_instruction(entry, places))
    yield Stretch(instructions, None, ())


def _needed(entries: Sequence[Entry | Yielded]) -> list[Entry | Yielded]:
    """Those with effects, and those whose results others need."""
    wanted, found = set[Place](), list[Entry | Yielded]()
    for entry in reversed(entries):
        if entry.has_effects or wanted.intersection(entry.made):
            wanted.update(entry.operands)
            found.append(entry)
    return found[::-1]


def _last_readings(entries: Sequence[Entry | Yielded]) -> dict[Place, int]:
    """For each place, the number of the last entry that reads it, or that makes it where none does."""
    return {place: number for number, entry in enumerate(entries) for place in (*entry.made, *entry.operands)}


def _dead(entries: Sequence[Entry | Yielded]) -> list[tuple[Place, ...]]:
    """For each entry, the places that entries made and no later one reads."""
    last, dead = _last_readings(entries), list[list[Place]]([] for _ in entries)
    for place in {place for entry in entries for place in entry.made}:
        dead[last[place]].append(place)
    return [tuple(places) for places in dead]


def _in_place(entries: Sequence[Entry | Yielded], beside: dict[Place, Layouts]) -> Iterator[Entry | Yielded]:
    """The entries, with sums in the memory of a term that nobody reads again where they would lie as it does. So
    autograd adds up gradients as long as nobody looks on; a recorder does."""
    last = _last_readings(entries)
    made = {place for entry in entries for place in entry.made}
    handed_out = {entry.place for entry in entries if isinstance(entry, Yielded)}
    for place in last:
        if place not in made or place in handed_out:
            last[place] = len(entries)  # others hold it

    for number, entry in enumerate(entries):
        is_sum = isinstance(entry, Entry) and entry.function is ADD and not entry.names
        yield _sum_in_place(entry, number, last, beside) if is_sum else entry  # type: ignore[arg-type]


def _sum_in_place(entry: Entry, number: int, last: dict[Place, int], beside: dict[Place, Layouts]) -> Entry:
    first, second, *others = entry.operands
    for term, other in ((first, second), (second, first)):
        places = beside.get(term, {}).values()
        is_free = other not in places and all(last.get(place, number) <= number for place in places)
        if is_free and _lies(term, beside) == _lies(entry.made[0], beside):
            return entry._replace(function=ADD_IN_PLACE, operands=(term, other, *others))
    return entry


def _lies(place: Place, beside: dict[Place, Layouts]) -> tuple[object, ...]:
    """How the tensor at ``place`` lies in its storage, but for where it begins; empty for what is no tensor."""
    return next((lies[1:] for lies, here in beside.get(place, {}).items() if here == place), ())


def _instruction(entry: Entry, dead: tuple[Place, ...]) -> Instruction:
    function = _by_name(entry.function, entry.names) if entry.names else entry.function
    return Instruction(function, _picker(entry.operands), entry.results, dead)


def _picker(places: tuple[Place, ...]) -> Callable[[list[Any]], Sequence[Any]]:
    """A function from all operands to those at ``places``."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda operands: [operands[place] for place in places]


def _by_name(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """``function`` whose last arguments have names."""

    def call(*operands: Any) -> Any:
        split = len(operands) - len(names)
        return function(*operands[:split], **dict(zip(names, operands[split:], strict=True)))

    return call
