"""Named makers of models and data sets: loaded when used, with options read from the maker's signature."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, get_type_hints

from qbench.errors import InputError, UnknownNameError
from qbench.plugin import Option
from qbench.registry import Registry, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from pydantic import BaseModel

T = TypeVar("T")


@dataclass(frozen=True)
class Factory(Generic[T]):
    """A name for a function ``target`` (``package.module:function``) that makes a ``T``.

    Keyword arguments of the function that have a default are options, the others are given by qbench;
    ``fixed`` are arguments that belong to the name (``resnet20``: ``depth=20``). Options are type-checked.
    """

    kind: str
    name: str
    description: str
    target: str
    fixed: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def module(self) -> ModuleType:
        """The module of the function, imported when first needed."""
        return importlib.import_module(self.target.partition(":")[0])

    @cached_property
    def function(self) -> Callable[..., T]:
        """The function itself."""
        return cast("Callable[..., T]", getattr(self.module, self.target.partition(":")[2]))

    @cached_property
    def options(self) -> list[Option]:
        """The options in the order of the signature."""
        hints = get_type_hints(self.function)
        return [
            Option(name, getattr(hints[name], "__name__", str(hints[name])), parameter.default)
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.default is not inspect.Parameter.empty and name not in self.fixed
        ]

    @cached_property
    def schema(self) -> type[BaseModel]:
        """A pydantic model of the options; unknown names are refused, numbers are not coerced."""
        from pydantic import ConfigDict, create_model

        hints = get_type_hints(self.function, include_extras=True)
        definitions: dict[str, Any] = {o.name: (hints[o.name], o.default) for o in self.options}
        return create_model(f"{self.name}_options", __config__=ConfigDict(extra="forbid", strict=True), **definitions)

    def resolve(self, options: Mapping[str, object]) -> dict[str, object]:
        """All options after checking, defaults filled in. Raises :class:`InputError`."""
        from pydantic import ValidationError

        try:
            return self.schema.model_validate(dict(options)).model_dump()
        except ValidationError as error:
            raise self._explain(error) from None

    def build(self, options: Mapping[str, object], **given: object) -> T:
        """Call the function with checked ``options`` and with what qbench gives it."""
        return self.function(**given, **self.fixed, **self.resolve(options))

    def _explain(self, error: Any) -> InputError:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = [option.name for option in self.options]
            return UnknownNameError(f"{self.kind} '{self.name}' has no option '{name}'{nearest(name, known)}")
        return InputError(f"{self.kind} '{self.name}', option '{name}': {first['msg'].lower()}, not {first['input']!r}")


F = TypeVar("F", bound=Factory[Any])


def registry_of(kind: str, factories: Iterable[F]) -> Registry[F]:
    """A registry of ``factories`` under their own names."""
    registry: Registry[F] = Registry(kind)
    for factory in factories:
        registry.add(factory.name, factory.target, lambda found=factory: found)  # type: ignore[misc]
    return registry
