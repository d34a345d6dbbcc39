"""Named makers of models and data sets: loaded when used, with options read from the maker's signature."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from qbench.options import Option, OptionSet, explanation
from qbench.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

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
        return self._option_set.options

    @property
    def explanation(self) -> str:
        """What the options mean, as the function's docstring says it."""
        return explanation(self.function)

    @cached_property
    def _option_set(self) -> OptionSet:
        return OptionSet(f"{self.kind} '{self.name}'", self.function, self.fixed)

    def resolve(self, options: Mapping[str, object]) -> dict[str, object]:
        """All options after checking, defaults filled in. Raises :class:`InputError`."""
        return self._option_set.resolve(options)

    def build(self, options: Mapping[str, object], **given: object) -> T:
        """Call the function with checked ``options`` and with what qbench gives it."""
        return self.function(**given, **self.fixed, **self.resolve(options))


F = TypeVar("F", bound=Factory[Any])


def registry_of(kind: str, factories: Iterable[F]) -> Registry[F]:
    """A registry of ``factories`` under their own names."""
    registry: Registry[F] = Registry(kind)
    for factory in factories:
        registry.add(factory.name, factory.target, lambda found=factory: found)  # type: ignore[misc]
    return registry
