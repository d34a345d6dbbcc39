"""Reading option values that are more than one word or number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from qbench.errors import InputError
from qbench.registry import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T", bound=str)


def seed_list(text: str | None) -> tuple[int, ...] | None:
    """``0,1,2`` or ``0-4`` or both mixed, as seeds. Raises InputError for anything else."""
    return None if text is None else tuple(seed for part in text.split(",") for seed in _seeds(part.strip(), text))


def one_seed(text: str | None) -> int | None:
    """The seed of a suite that has but one. Raises InputError for a list of several."""
    seeds = seed_list(text)
    if seeds is not None and len(seeds) > 1:
        raise InputError(f"--seeds: a theory suite has one seed, and '{text}' names {len(seeds)}")
    return None if seeds is None else seeds[0]


def one_of(value: str | None, *choices: T, option: str) -> T | None:
    """``value`` if it is one of ``choices``; None for None. Raises InputError."""
    if value is None:
        return None
    for choice in choices:
        if value == choice:
            return choice
    raise InputError(f"{option}: unknown value '{value}'{nearest(value, list(choices))}")


def _seeds(part: str, text: str) -> Iterator[int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", part, re.ASCII)
    if found is None or (found[2] is not None and int(found[2]) < int(found[1])):
        raise InputError(f"--seeds: '{text}' is no list of seeds; write 0,1,2 or 0-4")
    first = int(found[1])
    yield from range(first, int(found[2] or first) + 1)
