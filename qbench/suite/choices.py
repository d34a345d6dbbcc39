"""The parts of a suite that are chosen by name and options; lists of values expand to a product."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from qbench.cell import Plain
from qbench.errors import InputError, SuiteError
from qbench.suite.nodes import Node
from qbench.suite.source import shorten

T = TypeVar("T")
Resolve = Callable[[str, Mapping[str, object]], dict[str, object]]


class Choice(Plain):
    """A model or a data set: its name, those of its options that are not the default, and where its files lie."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    root: str | None = None


@dataclass(frozen=True)
class Kind:
    """What tells models and data sets apart: the key in the file, and who checks names and options."""

    key: str
    resolve: Resolve
    needs_root: Callable[[str], bool] | None = None


def model_kind() -> Kind:
    """Models, checked by :mod:`qbench.models`."""
    from qbench.models import resolve_model_options

    return Kind("model", resolve_model_options)


def dataset_kind() -> Kind:
    """Data sets, checked by :mod:`qbench.data`."""
    from qbench.data import resolve_dataset_options

    return Kind("dataset", resolve_dataset_options, needs_root)


def needs_root(dataset: str) -> bool:
    """Whether the data set is read from a directory that the user names."""
    from qbench.data import registry

    return registry.get(dataset).needs_root


def read_choices(node: Node, kind: Kind, folder: Path) -> tuple[Choice, ...]:
    """The models or data sets that ``node`` names; ``folder``: what a relative root starts from.

    Raises :class:`SuiteError` for a wrong form or a repetition, UnknownNameError and InputError for bad options.
    """
    items = node.value if isinstance(node.value, list) else [node]
    if not items:
        raise SuiteError(f"{node.where}: '{kind.key}' must not be empty")
    first_at: dict[str, str] = {}
    choices = []
    for item in items:
        for choice in _read_choice(item, kind, folder):
            identity = choice.model_dump_json()
            if identity in first_at:
                raise SuiteError(
                    f"{item.where}: {kind.key} '{choice.name}' is already at {first_at[identity]}; keep one"
                )
            first_at[identity] = item.where
            choices.append(choice)
    return tuple(choices)


def _read_choice(item: Node, kind: Kind, folder: Path) -> Iterator[Choice]:
    name = item.get("name") if isinstance(item.value, dict) else item
    if name is None or not isinstance(name.value, str):
        raise SuiteError(
            f"{item.where}: '{kind.key}' must be a name or {{name: ..., option: value}}, or a list of these"
        )
    defaults = locate(name.where, partial(kind.resolve, name.value, {}))
    root, own = _split_off_root(item, name.value, kind)
    for options in expand(values_of(own), partial(kind.resolve, name.value), item.where):
        changed = {key: value for key, value in options.items() if value != defaults[key]}
        yield Choice(name=name.value, options=changed, root=_directory(root, folder))


def _split_off_root(item: Node, name: str, kind: Kind) -> tuple[Node | None, Node]:
    """Where the files lie, and the options."""
    if not isinstance(item.value, dict):
        return None, Node({}, item.where)
    root = item.get("root")
    if root is None or kind.needs_root is None:
        return None, item.without("name")
    if not kind.needs_root(name):
        raise SuiteError(f"{root.where}: dataset '{name}' is not read from a directory; remove 'root'")
    return root, item.without("name", "root")


def _directory(node: Node | None, folder: Path) -> str | None:
    if node is None:
        return None
    if not isinstance(node.value, str) or not node.value:
        raise SuiteError(f"{node.where}: 'root' must be a directory, not {node.plain()!r}")
    return shorten(folder / Path(node.value).expanduser())


def values_of(options: Node) -> dict[str, list[Node]]:
    """For each option the values it shall take: a list names several. Raises :class:`SuiteError` for an empty one."""
    assert isinstance(options.value, dict)
    values = {}
    for name, child in options.value.items():
        values[name] = child.value if isinstance(child.value, list) else [child]
        if not values[name]:
            raise SuiteError(f"{child.where}: option '{name}' has an empty list of values")
    return values


def expand(
    values: Mapping[str, Sequence[Node]],
    resolve: Callable[[Mapping[str, object]], dict[str, object]],
    where: str,
) -> Iterator[dict[str, object]]:
    """All combinations of ``values``, each as the full options that ``resolve`` makes of it.

    Every value is first tried alone, so that a complaint names the line of the one that is wrong; ``where`` is the
    place of a complaint about several together.
    """
    for name, candidates in values.items():
        for candidate in candidates:
            locate(candidate.where, partial(resolve, {name: candidate.plain()}))
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, (node.plain() for node in combination), strict=True))
        yield locate(where, partial(resolve, chosen))


def locate(where: str, call: Callable[[], T]) -> T:
    """The value of ``call``; an error of the user's that comes out of it is told with its place."""
    try:
        return call()
    except InputError as error:
        raise type(error)(f"{where}: {error}") from error
