"""Names short enough for a picture, still told apart."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
LONGEST_NAME = 48
"""Columns of a method's name; the longest of the shipped suites fit."""

LONGEST_TITLE = 48
"""Columns of what a title says before it says what the picture shows."""

_SHORT = 24
_LETTER_INCHES = 0.075


def columns(text: str) -> int:
    """The width of ``text`` in letters: a Chinese, Japanese or Korean character is as wide as two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def room_for(names: Iterable[str]) -> float:
    """Inches by which a picture with ``names`` at its side is wider than one with short names."""
    return _LETTER_INCHES * max(max(map(columns, names), default=0) - _SHORT, 0)


def shortened(names: Sequence[str], longest: int = LONGEST_NAME) -> list[str]:
    """``names``, those of more than ``longest`` columns with an ellipsis in their middle.

    Those that would be the same then are shown from where they begin to differ, and numbered if that does not help.
    """
    head = longest // 2
    short = {name: _cut(name, head, longest - head - 1) for name in names}
    for group in _alike(short):
        alike = (len(set(letters)) == 1 for letters in zip(*group, strict=False))
        start = sum(takewhile(bool, alike))
        short.update({name: _from(name, start, longest) for name in group})
    for group in _alike(short):
        short.update({name: f"{short[name]} ({number})" for number, name in enumerate(group, start=1)})
    return [short[name] for name in names]


def _alike(short: Mapping[str, str]) -> list[list[str]]:
    """The names that are written the same, together."""
    groups: dict[str, list[str]] = {}
    for name, written in short.items():
        groups.setdefault(written, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _cut(name: str, head: int, tail: int) -> str:
    if columns(name) <= head + tail + 1:
        return name
    return _fitting(name, head) + ELLIPSIS + _fitting(reversed(name), tail)[::-1]


def _from(name: str, start: int, longest: int) -> str:
    """The beginning of ``name``, and what stands around ``start``."""
    head = longest // 4
    rest = name[max(start - head, head) :]
    return _fitting(name, head) + ELLIPSIS + _cut(rest, longest - head - 2, 0)


def _fitting(characters: Iterable[str], room: int) -> str:
    """As many of the first characters as are no wider than ``room``."""
    found = ""
    for character in characters:
        if columns(found + character) > room:
            break
        found += character
    return found
