"""Names to objects: lazy, a collision is an error that names both origins, an unknown name gets a suggestion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, TypeVar

from qbench.errors import CollisionError, UnknownNameError

T = TypeVar("T")


def nearest(name: str, candidates: list[str]) -> str:
    """A hint for an unknown name: ``", did you mean 'banner8'?"`` or the list of what exists."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    if close:
        return f", did you mean '{by_lower[close[0]]}'?"
    return f"; known: {', '.join(sorted(candidates)) or 'none'}"


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered name: where it comes from and how to get it."""

    name: str
    origin: str
    load: Callable[[], T]


class Registry(Generic[T]):
    """A table of names of one kind (``method``, ``model``, ``dataset``, ...).

    Entries are loaded when asked for, so a broken plugin never breaks the names beside it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def add(self, name: str, origin: str, load: Callable[[], T]) -> None:
        """Register ``name``. Raises :class:`CollisionError` when another origin already has it."""
        known = self._entries.get(name)
        if known is not None and known.origin != origin:
            raise CollisionError(
                f"two {self.kind}s are called '{name}': one from {known.origin}, one from {origin}; rename one"
            )
        self._entries[name] = Entry(name, origin, load)

    def get(self, name: str) -> T:
        """The object called ``name``. Raises :class:`UnknownNameError` with the nearest name."""
        return self.entry(name).load()

    def entry(self, name: str) -> Entry[T]:
        """The entry called ``name``, without loading its object."""
        if name not in self._entries:
            raise UnknownNameError(f"unknown {self.kind} '{name}'{nearest(name, self.names())}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter([self._entries[name] for name in self.names()])
