"""The ``@method`` decorator: a function of options that returns a recipe becomes a named, checked method.

The signature is the option schema: names, types, bounds and defaults are read from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from qbench.errors import InputError, PluginError, UnknownNameError
from qbench.recipe import Recipe
from qbench.registry import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel

RecipeFunction = Callable[..., Recipe]


@dataclass(frozen=True)
class Option:
    """One option of a method, as shown by ``qbench list methods -v``."""

    name: str
    type: str
    default: object


@dataclass(frozen=True)
class Method:
    """A named low-precision training method.

    null: options under which the method must change nothing; the contract tests demand the float
    baseline's loss trace bit for bit. deviations: where this implementation departs from the paper.
    """

    name: str
    function: RecipeFunction
    paper: str | None = None
    null: Mapping[str, object] | None = None
    deviations: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def origin(self) -> str:
        """Where the method is defined: ``file:line``."""
        return f"{self.source_file}:{self.function.__code__.co_firstlineno}"

    @property
    def source_file(self) -> Path:
        """The file whose content is part of every result's key."""
        return Path(inspect.getfile(self.function))

    @cached_property
    def options(self) -> list[Option]:
        """The options in the order of the signature."""
        hints = get_type_hints(self.function)
        parameters = inspect.signature(self.function).parameters
        return [Option(name, _type_name(hints[name]), p.default) for name, p in parameters.items()]

    @cached_property
    def schema(self) -> type[BaseModel]:
        """A pydantic model of the options; unknown names are refused, numbers are not coerced."""
        from pydantic import ConfigDict, create_model

        hints = get_type_hints(self.function, include_extras=True)
        definitions: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is inspect.Parameter.empty:
                raise PluginError(
                    f"method '{self.name}' ({self.origin}): option '{name}' must be keyword-only and have a default"
                )
            definitions[name] = (hints[name], parameter.default)
        return create_model(
            f"{self.name}_options", __config__=ConfigDict(extra="forbid", strict=True, frozen=True), **definitions
        )

    def resolve(self, options: Mapping[str, object]) -> dict[str, object]:
        """The full options after checking: defaults filled in. Raises :class:`InputError`."""
        from pydantic import ValidationError

        try:
            checked = self.schema.model_validate(self._expand(options), strict=True)
        except ValidationError as error:
            raise self._explain(error) from None
        return checked.model_dump()

    def _expand(self, options: Mapping[str, object]) -> dict[str, object]:
        """Replace ``preset: NAME`` by the options it stands for; what is written beside it wins."""
        chosen = dict(options)
        if not self.presets or "preset" not in chosen:
            return chosen
        name = str(chosen.pop("preset"))
        if name not in self.presets:
            raise UnknownNameError(f"method '{self.name}' has no preset '{name}'{nearest(name, list(self.presets))}")
        return {**self.presets[name], **chosen}

    def build(self, options: Mapping[str, object]) -> Recipe:
        """The recipe for ``options``. Raises :class:`InputError` for bad ones, :class:`PluginError` for no recipe."""
        recipe = self.function(**self.resolve(options))
        if not isinstance(recipe, Recipe):
            raise PluginError(
                f"method '{self.name}' ({self.origin}) must return a qbench.Recipe, not {type(recipe).__name__}"
            )
        return recipe

    def changed(self, options: Mapping[str, object]) -> dict[str, object]:
        """Those of ``options`` that differ from their defaults."""
        resolved = self.resolve(options)
        return {o.name: resolved[o.name] for o in self.options if resolved[o.name] != o.default}

    def label(self, options: Mapping[str, object]) -> str:
        """The name in tables: ``graham[bits=3]``; the bare name for default options."""
        changed = self.changed(options)
        inside = ",".join(f"{key}={_plain(value)}" for key, value in changed.items())
        return f"{self.name}[{inside}]" if inside else self.name

    def _explain(self, error: Any) -> InputError:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        known = [option.name for option in self.options]
        if first["type"] == "extra_forbidden":
            return UnknownNameError(f"method '{self.name}' has no option '{name}'{nearest(name, known)}")
        return InputError(f"method '{self.name}', option '{name}': {first['msg'].lower()}, not {first['input']!r}")


def method(
    name: str,
    *,
    paper: str | None = None,
    null: Mapping[str, object] | None = None,
    deviations: tuple[str, ...] = (),
    presets: Mapping[str, Mapping[str, object]] | None = None,
) -> Callable[[RecipeFunction], Method]:
    """Make a function of keyword options that returns a :class:`Recipe` a :class:`Method` called ``name``.

    paper: where the method is described (``arXiv:...``). null: options under which it changes nothing.
    deviations: sentences on where the implementation departs from the paper.
    presets: named sets of options, chosen with ``preset: NAME``.
    """

    def wrap(function: RecipeFunction) -> Method:
        return Method(name, function, paper, null, deviations, presets or {})

    return wrap


def _type_name(hint: Any) -> str:
    if isinstance(hint, type):
        return hint.__name__
    return str(hint).replace("typing.", "")


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
