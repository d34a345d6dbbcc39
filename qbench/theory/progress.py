"""How far an experiment has come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[float], None]
"""Called with the share of the work that is done, in [0, 1]."""

T = TypeVar("T")
_REPORTS = 50


def silent(_: float) -> None:
    """Nobody listens."""


def tracked(items: Iterable[T], count: int, progress: Progress, start: float = 0.0, end: float = 1.0) -> Iterator[T]:
    """``items``, of which there are ``count``, telling ``progress`` now and then; they are the part from ``start`` to
    ``end`` of the whole work."""
    every = max(count // _REPORTS, 1)
    for index, item in enumerate(items):
        if index % every == 0:
            progress(start + (end - start) * index / count)
        yield item
    progress(end)
