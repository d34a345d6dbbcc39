"""The ``@method`` decorator: a function of options that returns a recipe becomes a named, checked method.

The signature is the option schema: names, types, bounds and defaults are read from it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from traceback import walk_tb
from typing import Any

from qbench.errors import InputError, PluginError, UnknownNameError
from qbench.options import Option, OptionSet, explanation
from qbench.recipe import Recipe
from qbench.registry import nearest

RecipeFunction = Callable[..., Recipe]
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_FACTS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("paper", lambda value: value is None or isinstance(value, str), "text, such as 'arXiv:1511.00363'"),
    ("null", lambda value: value is None or isinstance(value, Mapping), "a mapping of options, such as {'bits': 32}"),
    ("deviations", lambda value: isinstance(value, tuple | list), "a tuple of sentences"),
    (
        "presets",
        lambda value: isinstance(value, Mapping) and all(isinstance(options, Mapping) for options in value.values()),
        "a mapping of names to options, such as {'paper': {'bits': 8}}",
    ),
)
"""What is said of a method, whether a value can be that, and what is asked for."""


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
    def explanation(self) -> str:
        """What the options mean, as the function's docstring says it."""
        return explanation(self.function)

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
        return self._option_set.options

    @cached_property
    def _option_set(self) -> OptionSet:
        for name, parameter in inspect.signature(self.function).parameters.items():
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.default is inspect.Parameter.empty:
                raise PluginError(
                    f"method '{self.name}' ({self.origin}): option '{name}' must be keyword-only and have a default"
                )
            if parameter.annotation is inspect.Parameter.empty:
                raise PluginError(
                    f"method '{self.name}' ({self.origin}): option '{name}' has no type; write {name}: int, for example"
                )
        return OptionSet(f"method '{self.name}'", self.function)

    def resolve(self, options: Mapping[str, object]) -> dict[str, object]:
        """The full options after checking: presets replaced, defaults filled in. Raises :class:`InputError`."""
        return self._option_set.resolve(self._expand(options))

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
        resolved = self.resolve(options)
        try:
            recipe = self.function(**resolved)
        except InputError as error:  # of a format or a slot, which do not know whose they are
            raise InputError(f"method '{self.name}' ({self.origin}): {error}") from error
        except SystemExit as error:  # a method does not end the program that asks for its recipe
            raise PluginError(
                f"method '{self.name}' ({self.origin}) fails: {located(error, self.source_file)}"
            ) from error
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
        return self.labelled(self.changed(options))

    def labelled(self, options: Mapping[str, object]) -> str:
        """The name with these options behind it, be they the default ones or not."""
        inside = ",".join(f"{key}={_plain(value)}" for key, value in options.items())
        return f"{self.name}[{inside}]" if inside else self.name


def method(
    name: str,
    *,
    paper: str | None = None,
    null: Mapping[str, object] | None = None,
    deviations: tuple[str, ...] = (),
    presets: Mapping[str, Mapping[str, object]] | None = None,
) -> Callable[[RecipeFunction], Method]:
    """Make a function of keyword options that returns a :class:`Recipe` a :class:`Method` called ``name``.

    name: letters, digits, ``.``, ``_`` and ``-``, so that it can be selected as it is printed.
    paper: where the method is described (``arXiv:...``). null: options under which it changes nothing.
    deviations: sentences on where the implementation departs from the paper.
    presets: named sets of options, chosen with ``preset: NAME``.
    """

    def wrap(function: RecipeFunction) -> Method:
        made = Method(name, function, paper, null, deviations, {} if presets is None else presets)
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise PluginError(
                f"method '{name}' ({made.origin}): a name is made of letters, digits, '.', '_' and '-'; choose another"
            )
        for fact, is_right, wanted in _FACTS:
            if not is_right(getattr(made, fact)):
                raise PluginError(
                    f"method '{name}' ({made.origin}): '{fact}' is {wanted}, not {getattr(made, fact)!r}; change it"
                )
        return made

    return wrap


def located(error: BaseException, file: Path) -> str:
    """``ValueError: too wide (mine.py, line 3)``: an error, and the last line of ``file`` on the way to it."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(file)]
    where = f" ({file.name}, line {lines[-1]})" if lines else ""
    said = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{said}{where}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
