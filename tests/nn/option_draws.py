"""Options of a method as hypothesis draws them, from the types in its signature."""

from __future__ import annotations

import math
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from qbench.plugin import Method

MOST_INT, MOST_FLOAT = 16, 4.0
"""Where a type has no upper bound."""


def drawn_options(method: Method) -> SearchStrategy[dict[str, object]]:
    """Some of the options, with values of their types; what is not drawn keeps its default."""
    hints = get_type_hints(method.function, include_extras=True)
    return st.fixed_dictionaries({}, optional={option.name: values(hints[option.name]) for option in method.options})


def values(hint: Any) -> SearchStrategy[Any]:
    """Values of a type that an option may have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return st.one_of(*map(values, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is Annotated:
        return _numbers(arguments[0], arguments[1:])
    if hint in {int, float}:
        return _numbers(hint, ())
    return st.from_type(hint)


def _numbers(base: type, bounds: tuple[object, ...]) -> SearchStrategy[Any]:
    names = ("ge", "gt", "le", "lt", "multiple_of")
    ends = {name: value for bound in bounds for name in names if (value := getattr(bound, name, None)) is not None}
    low = ends.get("ge", ends.get("gt", 0))
    high = ends.get("le", ends.get("lt", MOST_INT if base is int else MOST_FLOAT))
    if base is int:
        return st.integers(low, high)
    if "multiple_of" in ends:
        return st.integers(0, math.ceil((high - low) / ends["multiple_of"]) - 1).map(
            lambda steps: low + steps * ends["multiple_of"]
        )
    return st.floats(low, high, exclude_min="gt" in ends, exclude_max="lt" in ends, width=32, allow_subnormal=False)
