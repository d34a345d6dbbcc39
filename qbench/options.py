"""Options read from a function's signature: names, types, bounds and defaults, checked by pydantic."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, MultipleOf

from qbench.errors import InputError, PluginError, UnknownNameError
from qbench.registry import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel

Bits = Annotated[int, Interval(ge=1, le=16)] | Literal[32]
"""A bit width; 32 means the path stays in float32. Codes of widths in between would not be exact in float32."""

PositiveInt = Annotated[int, Ge(1)]

Fraction = Annotated[float, Interval(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class Option:
    """One option as shown by ``qbench list ... -v``."""

    name: str
    type: str
    default: object


def explanation(function: Callable[..., object]) -> str:
    """What a function's docstring says below its first paragraph: what each option means."""
    return (inspect.getdoc(function) or "").partition("\n\n")[2].strip()


class OptionSet:
    """The options of one function: those of its parameters that have a default, less ``fixed``.

    owner: what the options belong to, for messages (``method 'graham'``).
    """

    def __init__(self, owner: str, function: Callable[..., object], fixed: Iterable[str] = ()) -> None:
        self.owner = owner
        self._function = function
        self._fixed = frozenset(fixed)

    @cached_property
    def options(self) -> list[Option]:
        """In the order of the signature."""
        return [
            Option(name, type_name(self._hints[name]), parameter.default)
            for name, parameter in inspect.signature(self._function).parameters.items()
            if parameter.default is not inspect.Parameter.empty and name not in self._fixed
        ]

    @cached_property
    def _hints(self) -> dict[str, Any]:
        """The types in the signature. Raises :class:`PluginError` where one cannot be told."""
        try:
            return get_type_hints(self._function, include_extras=True)
        except Exception as error:  # annotations may be any code
            raise PluginError(
                f"{self._place}: {self.owner}: its types cannot be read ({type(error).__name__}: {error}); import or "
                "define what the signature names"
            ) from error

    @property
    def _place(self) -> str:
        return f"{inspect.getsourcefile(self._function)}:{self._function.__code__.co_firstlineno}"

    @cached_property
    def _schema(self) -> type[BaseModel]:
        from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, create_model

        definitions: dict[str, Any] = {o.name: (self._hints[o.name], o.default) for o in self.options}
        # Options are part of keys, and of JSON, which has neither NaN nor infinity.
        config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
        try:
            return create_model("Options", __config__=config, **definitions)
        except PydanticSchemaGenerationError:
            for option in self.options:
                try:
                    TypeAdapter(self._hints[option.name])
                except PydanticSchemaGenerationError as error:
                    raise PluginError(
                        f"{self._place}: {self.owner}, option '{option.name}': values of type {option.type} cannot be "
                        "checked; give it a type such as int, float, str or Literal"
                    ) from error
            raise

    @cached_property
    def _checked_schema(self) -> type[BaseModel]:
        """The schema, once its own defaults have passed it. Raises :class:`PluginError`."""
        from pydantic import ValidationError

        for option in self.options:
            try:
                # A type such as Any takes everything, but JSON does not.
                self._schema.model_validate_json(json.dumps({option.name: option.default}, default=repr))
                json.dumps(option.default, default=repr, allow_nan=False)
            except ValidationError as error:
                raise self._bad_default(option, error.errors()[0]["msg"].lower()) from None
            except ValueError:
                raise self._bad_default(option, "input should be a finite number") from None
        return self._schema

    def _bad_default(self, option: Option, complaint: str) -> PluginError:
        return PluginError(
            f"{self._place}: {self.owner}, option '{option.name}': its default {option.default!r} cannot be used, "
            f"{complaint}; change the default or the type"
        )

    def resolve(self, given: Mapping[str, object]) -> dict[str, object]:
        """All options, defaults filled in; unknown names are refused and numbers are not coerced.

        Checked as JSON, as they come from YAML and travel to workers: a list is good for a tuple.
        Raises :class:`InputError` or :class:`UnknownNameError`.
        """
        from pydantic import ValidationError

        try:
            return self._checked_schema.model_validate_json(json.dumps(dict(given), default=repr)).model_dump()
        except ValidationError as error:
            raise self._explain(error.errors()[0]) from None

    def _explain(self, complaint: Mapping[str, Any]) -> InputError:
        name = str(complaint["loc"][0]) if complaint["loc"] else "?"
        if complaint["type"] == "extra_forbidden":
            known = [option.name for option in self.options]
            return UnknownNameError(f"{self.owner} has no option '{name}'{nearest(name, known)}")
        return InputError(f"{self.owner}, option '{name}': {complaint['msg'].lower()}, not {complaint['input']!r}")


def type_name(hint: Any) -> str:
    """A type hint as users read it: ``int from 1 to 16 | 32``, ``nearest | stochastic``."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *bounds = get_args(hint)
        return " ".join([type_name(base), *filter(None, map(_bound, bounds))])
    if origin is Literal:
        return " | ".join(map(str, get_args(hint)))
    if origin in {Union, UnionType}:
        return " | ".join(type_name(part) for part in get_args(hint))
    if origin is tuple:
        return f"list of {type_name(get_args(hint)[0])}"
    return "none" if hint is NoneType else getattr(hint, "__name__", str(hint))


def _bound(bound: object) -> str:
    if isinstance(bound, Interval):
        if bound.gt is not None:
            return f"above {bound.gt} and {f'at most {bound.le}' if bound.lt is None else f'below {bound.lt}'}"
        return f"from {bound.ge} to {bound.le if bound.lt is None else f'below {bound.lt}'}"
    if isinstance(bound, Ge):
        return f"of at least {bound.ge}"
    if isinstance(bound, MultipleOf):
        return f"in steps of {bound.multiple_of}"
    return f"above {bound.gt}" if isinstance(bound, Gt) else ""
