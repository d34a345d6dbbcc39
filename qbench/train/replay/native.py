"""A tape whose kernels are called in C++ directly, on memory laid out beforehand.

Behind each of qbench's operators there is Python that allocates results and calls the library. A tape that has been
played once knows all of these calls. What the step's kernels make lies in one block of memory, the arena, where tensors
that do not live at the same time share bytes: then no address changes from step to step, and a kernel is one call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from qbench.kernels import backends, cpu, library
from qbench.kernels.cpu.calls import NativeCall, noting
from qbench.kernels.random import MASK
from qbench.train.replay.arena import Span, arranged
from qbench.train.replay.recorder import EMPTY, IMAGES, LABELS, Entry, Place, Recorder, Yielded, listed
from qbench.train.replay.tape import (
    Dead,
    Gradients,
    Part,
    Stretch,
    Tape,
    filled,
    in_place,
    last_readings,
    played,
    ready,
    store,
    stretches,
)

NAMES: Mapping[Callable[..., Any], str] = {function: name for name, function in vars(library.ops).items()}
"""The operators of qbench by the functions that tapes hold."""


class Pointer(NamedTuple):
    """An address among a call's arguments, ``words[at]``: in the tensor at ``place``, so many bytes behind where its
    storage begins, and behind its first element."""

    words: Any
    at: int
    place: Place
    in_storage: int
    in_tensor: int


class Result(NamedTuple):
    """How a kernel's result lies in its storage of ``num_bytes``."""

    place: Place
    num_bytes: int
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, place: Place, x: Tensor) -> Result:
        """That of ``x``."""
        return cls(place, x.untyped_storage().nbytes(), int(x.storage_offset()), x.shape, x.stride(), x.dtype)

    def empty(self) -> Tensor:
        """A new tensor like it."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype)

    def within(self, arena: Tensor, offset: int) -> Tensor:
        """One whose storage begins ``offset`` bytes behind that of ``arena``."""
        first = offset // self.dtype.itemsize + self.offset
        return torch.empty(0, dtype=self.dtype).set_(arena.untyped_storage(), first, self.shape, self.stride)


class Kernel(NamedTuple):
    """An operator as the calls of the library that it is."""

    calls: list[NativeCall]
    pointers: list[Pointer]
    results: list[Result]


class NativeKernels(NamedTuple):
    """Kernels made ready, one after another. makes: results that others will hold, new in every step; pointers: the
    addresses that change from step to step."""

    calls: list[NativeCall]
    makes: list[Result]
    pointers: list[Pointer]
    dead: Dead

    def run(self, operands: list[Any]) -> None:
        """Call the library."""
        for result in self.makes:
            operands[result.place] = result.empty()
        for words, index, place, _, ahead in self.pointers:
            words[index] = operands[place].data_ptr() + ahead
        for function, arguments, _, _, check in self.calls:
            status = function(*arguments)
            if check is not None:
                check(status)
        for place in self.dead:
            operands[place] = None


class NativeTape(Tape):
    """A tape for a step on the CPU. Where somebody looks on, or kernels are chosen otherwise than when it was first
    played, it is played as any other."""

    def __init__(self, first: Recorder, second: Recorder) -> None:
        super().__init__(first, second)
        self._program: Program | None = None
        self._conditions: Conditions | None = None

    def play(self, step: int, images: Tensor, labels: Tensor) -> Gradients:
        """As :meth:`Tape.play`."""
        if not library.is_watched():
            if self._conditions is None:
                return self._watched(step, images, labels)
            if self._program is not None and self._conditions.hold():
                return self._program.play(step, images, labels)
        self.rest()
        return super().play(step, images, labels)

    @property
    def is_learned(self) -> bool:
        """Whether it was played once, so that its kernels are known."""
        return self._conditions is not None

    def rest(self) -> None:
        """Take no memory until the next step."""
        if self._program is not None:
            self._program.rest()

    def _watched(self, step: int, images: Tensor, labels: Tensor) -> Gradients:
        """Play it once and learn what its kernels are."""
        kernels = dict[int, Kernel]()
        parts = (
            entry if isinstance(entry, Yielded) else Watched(entry, dead, number, kernels)
            for number, (entry, dead) in enumerate(zip(self.entries, self.dead, strict=True))
        )
        yield from played(list(stretches(parts, self.dead)), filled(self.operands, self.keys, step, images, labels))
        self._program = Program(self, kernels) if kernels else None
        self._conditions = Conditions({NAMES[cast(Entry, self.entries[number]).function] for number in kernels})


class Conditions:
    """What the library's calls were made for: a number of threads, an instruction set, and that it was chosen for
    ``names``."""

    def __init__(self, names: Collection[str]) -> None:
        self._chosen = {(name, "cpu"): backends.CHOSEN[name, "cpu"] for name in names}
        self._level = self._now()

    def hold(self) -> bool:
        """Whether all is as it was."""
        is_chosen = all(backends.CHOSEN.get(place) is function for place, function in self._chosen.items())
        return is_chosen and self._now() == self._level

    def _now(self) -> tuple[int, str]:
        return torch.get_num_threads(), cpu.isa() if self._chosen else ""


class Watched(NamedTuple):
    """An operator that is watched as it runs; what it is as a kernel goes into ``kernels`` under its number."""

    entry: Entry
    dead: Dead
    number: int
    kernels: dict[int, Kernel]

    def run(self, operands: list[Any]) -> None:
        """Call the operator."""
        function = backends.CHOSEN.get((NAMES.get(self.entry.function, ""), "cpu"))
        if function is None:
            cast(Part, ready(self.entry, self.dead)).run(operands)
            return
        arguments = [operands[place] for place in self.entry.operands]
        with noting() as calls, _Allocating() as mode:
            result = function(*arguments)
        store(result, self.entry.results, operands)
        made = {place: operands[place] for place in self.entry.made}
        read = {p: x for p, x in zip(self.entry.operands, arguments, strict=True) if isinstance(x, Tensor)}
        pointers = _pointers(calls, read | made)
        if calls and mode.is_all and pointers is not None:
            self.kernels[self.number] = Kernel(calls, pointers, [Result.of(*item) for item in made.items()])
        for place in self.dead:
            operands[place] = None


class _Allocating(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether anything is done but to allocate."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_all = True

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.is_all &= func in EMPTY
        return func(*args, **(kwargs or {}))


def _pointers(calls: Sequence[NativeCall], tensors: Mapping[Place, Tensor]) -> list[Pointer] | None:
    """The addresses of the calls as places of ``tensors``; None where one lies in none of them."""
    found = []
    for words, index in (pointer for call in calls for pointer in call.pointers):
        address = words[index]
        if address:
            place = next((place for place, x in tensors.items() if _reaches(x, address)), None)
            if place is None:
                return None
            x = tensors[place]
            found.append(Pointer(words, index, place, address - x.untyped_storage().data_ptr(), address - x.data_ptr()))
    return found


def _reaches(x: Tensor, address: int) -> bool:
    storage = x.untyped_storage()
    return 0 <= address - storage.data_ptr() < storage.nbytes()


class Program:
    """The stretches of a tape whose kernels are native, and the arena. kernels: by the number of their entry."""

    def __init__(self, tape: Tape, kernels: Mapping[int, Kernel]) -> None:
        self._keys = tape.keys
        self._operands = list(tape.operands)
        self._steps = [(c.arguments, i) for kernel in kernels.values() for c in kernel.calls for i in c.steps]
        self._beside = tape.beside
        self._offsets, size = arranged(_spans(tape, kernels))
        self._arena = torch.empty(size, dtype=torch.uint8)
        self._size, self._begins = size, self._arena.data_ptr()
        self._pointers: list[tuple[Pointer, int]] = []
        made = {place for entry in tape.entries for place in entry.made}
        later = {IMAGES, LABELS, *(key.place for key in tape.keys)}
        # Places whose operand is the same in every step.
        self._fixed = {p for p, x in enumerate(tape.operands) if (x is not None or p not in made) and p not in later}
        for result in (result for kernel in kernels.values() for result in kernel.results):
            offset = self._offsets.get(_storage(tape, result.place))
            if offset is not None:
                self._operands[result.place] = result.within(self._arena, offset)
                self._fixed.add(result.place)
        entries = in_place(tape.entries, tape.beside, self._fixed | tape.given)
        parts = [self._part(entry, kernels.get(n), tape.dead[n]) for n, entry in enumerate(entries)]
        self._stretches = [merged(stretch) for stretch in stretches(parts, tape.dead)]

    def play(self, step: int, images: Tensor, labels: Tensor) -> Gradients:
        """As :meth:`Tape.play`."""
        self._awake()
        for arguments, index in self._steps:
            arguments[index] = step & MASK
        return played(self._stretches, filled(self._operands, self._keys, step, images, labels))

    def rest(self) -> None:
        """Take no memory until the next step."""
        self._arena.untyped_storage().resize_(0)

    def _awake(self) -> None:
        """Take the arena's memory again, which may lie elsewhere. All its tensors share one storage."""
        storage = self._arena.untyped_storage()
        if storage.nbytes() == 0:
            storage.resize_(self._size)
        if storage.data_ptr() != self._begins:
            self._begins = storage.data_ptr()
            for pointer, offset in self._pointers:
                pointer.words[pointer.at] = self._begins + offset

    def _part(self, entry: Entry | Yielded, kernel: Kernel | None, dead: Dead) -> Part | Yielded | None:
        """What stands for ``entry``; None where it was done once and for all."""
        if isinstance(entry, Yielded):
            return entry
        if kernel is not None:
            return self._native(kernel, self._changing(dead))
        if self._is_fixed(entry):
            cast(Part, ready(entry, ())).run(self._operands)
            self._fixed.update(entry.made)
            return None
        return ready(entry, self._changing(dead))

    def _changing(self, places: Dead) -> Dead:
        return tuple(place for place in places if place not in self._fixed)

    def _is_fixed(self, entry: Entry) -> bool:
        """Whether an entry gives the same tensors in every step: lists or views of such, whatever is in them."""
        if entry.has_effects or not self._fixed.issuperset(entry.operands):
            return False
        read = [id(self._beside[place]) for place in entry.operands if place in self._beside]
        return entry.function is listed or all(id(self._beside[place]) in read for place in entry.made)

    def _native(self, kernel: Kernel, dead: Dead) -> NativeKernels:
        changing = list[Pointer]()
        for pointer in kernel.pointers:
            offset = self._offsets.get(id(self._beside[pointer.place]))
            if offset is not None:
                pointer.words[pointer.at] = self._begins + offset + pointer.in_storage
                self._pointers.append((pointer, offset + pointer.in_storage))
            elif pointer.place not in self._fixed:
                changing.append(pointer)
        makes = [result for result in kernel.results if result.place not in self._fixed]
        return NativeKernels(kernel.calls, makes, changing, dead)


def merged(stretch: Stretch) -> Stretch:
    """The stretch with kernels in a row as one part."""
    parts = list[Part]()
    for part in stretch.parts:
        before = parts[-1] if parts else None
        if isinstance(before, NativeKernels) and isinstance(part, NativeKernels) and not (part.makes or part.pointers):
            parts[-1] = before._replace(calls=before.calls + part.calls, dead=before.dead + part.dead)
        else:
            parts.append(part)
    return replace(stretch, parts=parts)


def _spans(tape: Tape, kernels: Mapping[int, Kernel]) -> dict[int, Span]:
    """The lives of the storages that kernels make and that are not handed out."""
    last = last_readings(tape.entries)
    handed_out = {_storage(tape, entry.place) for entry in tape.entries if isinstance(entry, Yielded)}
    spans = {}
    for number, kernel in kernels.items():
        for result in kernel.results:
            if _storage(tape, result.place) not in handed_out:
                end = max(last.get(place, number) for place in tape.beside[result.place].values())
                spans[_storage(tape, result.place)] = Span(number, end, result.num_bytes)
    return spans


def _storage(tape: Tape, place: Place) -> int:
    """What stands for the storage of the tensor at ``place``."""
    return id(tape.beside[place])
