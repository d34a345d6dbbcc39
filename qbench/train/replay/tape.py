"""A recorded training step, to be run again for another batch without the modules, the layers' Python and autograd's
graph between its operators.

A CUDA graph does this for a GPU. Operators, their order and their operands are those of the step that was recorded, so
the results are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from qbench.kernels.random import MASK
from qbench.train.replay.recorder import (
    IMAGES,
    LABELS,
    Entry,
    Layouts,
    Place,
    RandomKey,
    Recorder,
    Yielded,
    require_same,
)

ADD, ADD_IN_PLACE = torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor

Gradients = Iterator[tuple[Tensor | None, Tensor]]
"""(None, loss) first, then each (parameter, gradient)."""

Dead = tuple[Place, ...]
"""Places that nothing reads from then on."""


class Part(Protocol):
    """What reads and writes operands when it runs."""

    def run(self, operands: list[Any], /) -> None: ...


@dataclass(frozen=True)
class Stretch:
    """Parts, and what is handed out behind them, which may be nothing behind the last ones."""

    parts: list[Part]
    yielded: Yielded | None
    dead: Dead


class Tape:
    """A step that was recorded twice, without what has no effect on loss, gradients and buffers.

    Raises :class:`UnrepeatableError` where the two differ in more than the batch and the step of random keys.
    """

    def __init__(self, first: Recorder, second: Recorder) -> None:
        require_same(first, second)
        self.operands = list(second.operands)
        self.keys = list(second.keys)
        self.beside = second.beside
        self.entries = _needed(second.entries)
        self.dead = _dead(self.entries)
        self.given = {IMAGES, LABELS, *(place for place, x in enumerate(self.operands) if isinstance(x, Tensor))}
        summed = in_place(self.entries, self.beside, self.given)
        self._stretches = list(stretches(map(ready, summed, self.dead), self.dead))

    def play(self, step: int, images: Tensor, labels: Tensor) -> Gradients:
        """Run the step numbered ``step`` on a batch of the recorded shapes, as far as the results are asked for: first
        (None, loss), then each (parameter, gradient) as soon as that is complete."""
        return played(self._stretches, filled(self.operands, self.keys, step, images, labels))


def filled(operands: Sequence[Any], keys: Sequence[RandomKey], step: int, images: Tensor, labels: Tensor) -> list[Any]:
    """The operands of a step that are there from the start: what is the same in all, the batch and random keys."""
    result = list(operands)
    result[IMAGES], result[LABELS] = images, labels
    for place, seed, tensor, generator in keys:
        result[place] = [seed, tensor, step & MASK, generator]
    return result


class Instruction(NamedTuple):
    """An operator made ready. pick: its operands from among all."""

    function: Callable[..., Any]
    pick: Callable[[list[Any]], Sequence[Any]]
    results: Place | tuple[Place, ...] | None
    dead: Dead

    def run(self, operands: list[Any]) -> None:
        """Call the operator."""
        store(self.function(*self.pick(operands)), self.results, operands)
        for place in self.dead:
            operands[place] = None


def store(result: Any, places: Place | tuple[Place, ...] | None, operands: list[Any]) -> None:
    """Put what an operator returned into its places."""
    if isinstance(places, int):
        operands[places] = result
    elif places is not None:
        for place, one in zip(places, result, strict=True):
            operands[place] = one


def ready(entry: Entry | Yielded, dead: Dead) -> Part | Yielded:
    """An operator as an instruction; what is handed out as it is."""
    if isinstance(entry, Yielded):
        return entry
    function = _by_name(entry.function, entry.names) if entry.names else entry.function
    return Instruction(function, _picker(entry.operands), entry.results, dead)


def stretches(parts: Iterable[Part | Yielded | None], dead: Iterable[Dead]) -> Iterator[Stretch]:
    """The parts of a program, cut behind each that hands something out. dead: behind each of them; None is left out."""
    waiting = list[Part]()
    for part, places in zip(parts, dead, strict=True):
        if isinstance(part, Yielded):
            yield Stretch(waiting, part, places)
            waiting = []
        elif part is not None:
            waiting.append(part)
    yield Stretch(waiting, None, ())


def played(program: Sequence[Stretch], operands: list[Any]) -> Gradients:
    """Run a program on its operands."""
    for stretch in program:
        _run(stretch.parts, operands)
        if stretch.yielded is not None:
            handed_out = stretch.yielded.parameter, operands[stretch.yielded.place]
            for place in stretch.dead:
                operands[place] = None
            yield handed_out
            del handed_out


@torch.no_grad()
def _run(parts: Sequence[Part], operands: list[Any]) -> None:
    for part in parts:
        part.run(operands)


def _needed(entries: Sequence[Entry | Yielded]) -> list[Entry | Yielded]:
    """Those with effects, and those whose results others need."""
    wanted, found = set[Place](), list[Entry | Yielded]()
    for entry in reversed(entries):
        if entry.has_effects or wanted.intersection(entry.made):
            wanted.update(entry.operands)
            found.append(entry)
    return found[::-1]


def last_readings(entries: Sequence[Entry | Yielded]) -> dict[Place, int]:
    """For each place, the number of the last entry that reads it, or that makes it where none does."""
    return {place: number for number, entry in enumerate(entries) for place in (*entry.made, *entry.operands)}


def _dead(entries: Sequence[Entry | Yielded]) -> list[tuple[Place, ...]]:
    """For each entry, the places that entries made and no later one reads."""
    last, dead = last_readings(entries), list[list[Place]]([] for _ in entries)
    for place in {place for entry in entries for place in entry.made}:
        dead[last[place]].append(place)
    return [tuple(places) for places in dead]


def in_place(
    entries: Sequence[Entry | Yielded], beside: dict[Place, Layouts], held: Collection[Place]
) -> Iterator[Entry | Yielded]:
    """The entries, with sums in the memory of a term that nobody reads again where they would lie as it does. So
    autograd adds up gradients as long as nobody looks on; a recorder does. held: places whose memory somebody else
    holds."""
    last = last_readings(entries)
    last.update((place, len(entries)) for place in held)
    last.update((entry.place, len(entries)) for entry in entries if isinstance(entry, Yielded))
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
