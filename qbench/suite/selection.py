"""Methods chosen in one line: ``banner8``, ``graham[bits=2,3,4]``, ``./mine.py:my_method[bits=4,rounding=nearest]``.

A comma separates values of one option, or begins the next option where an ``=`` follows. Values are YAML scalars;
a value that is itself a list stands in brackets: ``levels=[0,1,2]`` is one value, ``bits=2,3`` are two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qbench.errors import InputError
from qbench.suite.nodes import Node, read_yaml

_FORM = "write NAME or NAME[option=value,value,option=value]"
_OPENING, _CLOSING = "[{(", ")}]"


@dataclass(frozen=True)
class Selection:
    """A method reference and, for each option named, the values it shall take."""

    reference: str
    options: dict[str, list[Node]]


def parse_selection(text: str, where: str, kind: str = "method") -> Selection:
    """Read one selection of a ``kind``; ``where`` stands before a complaint. Raises :class:`InputError`."""
    reference, bracket, rest = text.strip().partition("[")
    if not reference or (bracket and not rest.endswith("]")):
        raise InputError(f"{where}: '{text}' is no selection of a {kind}; {_FORM}")
    if rest.strip() == "]":
        raise InputError(f"{where}: the brackets of '{text}' hold no option; {_FORM}")
    options: dict[str, list[Node]] = {}
    for part in _split(rest[:-1], text, where) if bracket else []:
        _take(part, options, text, where)
    return Selection(reference.strip(), options)


def _take(part: str, options: dict[str, list[Node]], text: str, where: str) -> None:
    named = re.match(r"\s*([A-Za-z_]\w*)\s*=(.*)", part, re.DOTALL)
    if named is None and not options:
        raise InputError(f"{where}: '{part.strip()}' in '{text}' has no option it belongs to; {_FORM}")
    name = named[1] if named else next(reversed(options))
    value = (named[2] if named else part).strip()
    if named and name in options:
        raise InputError(f"{where}: option '{name}' stands twice in '{text}'; write {name}=value,value")
    if not value:
        raise InputError(f"{where}: option '{name}' in '{text}' has an empty value; {_FORM}")
    options.setdefault(name, []).append(Node(read_yaml(value, where).value, where))


def _split(inside: str, text: str, where: str) -> list[str]:
    """Split at commas that no bracket and no quote encloses."""
    parts, depth, quote = [""], 0, ""
    for character in inside:
        if quote or character in "'\"":
            quote = "" if character == quote else quote or character
        elif character in _OPENING or character in _CLOSING:
            depth += 1 if character in _OPENING else -1
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    if depth or quote:
        raise InputError(f"{where}: a bracket or quote in '{text}' is not closed; {_FORM}")
    return parts
