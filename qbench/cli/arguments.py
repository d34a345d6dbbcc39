"""Reading option values that are more than one word or number."""

from __future__ import annotations

import itertools
import re
from typing import TypeVar

from qbench.errors import InputError
from qbench.registry import nearest

_MOST_SEEDS = 10_000

T = TypeVar("T", bound=str)


def seed_list(text: str | None) -> tuple[int, ...] | None:
    """``0,1,2`` or ``0-4`` or both mixed, as seeds. Raises InputError for anything else."""
    if text is None:
        return None
    spans = [_span(part.strip(), text) for part in text.split(",")]
    if sum(map(len, spans)) > _MOST_SEEDS:
        raise InputError(f"--seeds: '{text}' names more than {_MOST_SEEDS} seeds; name fewer")
    return tuple(itertools.chain.from_iterable(spans))


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


def _span(part: str, text: str) -> range:
    found = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", part, re.ASCII)  # 19 digits are more than a seed has
    if found is None or (found[2] is not None and int(found[2]) < int(found[1])):
        raise InputError(f"--seeds: '{text}' is no list of seeds; write 0,1,2 or 0-4")
    first = int(found[1])
    return range(first, int(found[2] or first) + 1)
