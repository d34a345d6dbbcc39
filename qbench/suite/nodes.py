"""YAML values that remember where they were written, so that every complaint can say file and line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from qbench.errors import SuiteError

# An alias may stand for a large part, or for a part that holds itself: both end here, as a suite is small and flat.
_MAX_DEPTH = 24
_MAX_NODES = 20_000
_MOST = 2**63 - 1  # what PyTorch takes for a size or a seed
_TOO_DEEP = "this nests too deeply or repeats an alias too often; write it out plainly"
_CORE = "tag:yaml.org,2002:"

Key = str | int


@dataclass(frozen=True)
class Node:
    """A mapping, list or scalar with its place: ``digits.yaml:12`` or a command-line option such as ``--seeds``.

    What stands in a mapping has the place of its key.
    """

    value: dict[str, Node] | list[Node] | str | int | float | bool | None
    where: str

    def plain(self) -> Any:
        """The value as ordinary dictionaries, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def at(self, path: Sequence[Key]) -> Node:
        """The node at ``path``, or the deepest one that exists on the way there."""
        node = self
        for key in path:
            child = node._child(key)
            if child is None:
                break
            node = child
        return node

    def get(self, key: str) -> Node | None:
        """What a mapping holds under ``key``; None where it has no such key or is no mapping."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def without(self, *keys: str) -> Node:
        """A mapping without ``keys``."""
        assert isinstance(self.value, dict)
        return Node({key: child for key, child in self.value.items() if key not in keys}, self.where)

    def _child(self, key: Key) -> Node | None:
        if isinstance(self.value, dict) and isinstance(key, str):
            return self.value.get(key)
        if isinstance(self.value, list) and isinstance(key, int) and key < len(self.value):
            return self.value[key]
        return None


def graft(value: Any, where: str) -> Node:
    """Ordinary data as nodes that all stand at ``where``."""
    if isinstance(value, dict):
        return Node({key: graft(child, where) for key, child in value.items()}, where)
    if isinstance(value, list | tuple):
        return Node([graft(child, where) for child in value], where)
    return Node(value, where)


def merge(base: Node, overlay: Node) -> Node:
    """``base`` with ``overlay`` on top: mappings merge key by key, anything else is replaced."""
    if not (isinstance(base.value, dict) and isinstance(overlay.value, dict)):
        return overlay
    merged = dict(base.value)
    for key, child in overlay.value.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return Node(merged, base.where)


def read_yaml(text: str, shown: str) -> Node:
    """Parse one YAML 1.2 document; ``shown`` names it in messages. Nothing but plain data can come out.

    Raises :class:`SuiteError` for what is no YAML, repeats a key, carries a tag or nests without end.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f":{mark.line + 1}"
        raise SuiteError(f"{shown}{line}: this is not YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise SuiteError(f"{shown}: this is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise SuiteError(f"{shown}: {_TOO_DEEP}") from None
    if root is None:
        raise SuiteError(f"{shown} is empty; a suite needs at least 'name', 'model', 'dataset', 'seeds' and 'methods'")
    return _Reader(yaml, shown).node(root, 0)


class _Reader:
    """Turns the parser's nodes into ours, and refuses what a suite has no use for."""

    def __init__(self, yaml: Any, shown: str) -> None:
        self.yaml = yaml
        self.shown = shown
        self.num_nodes = 0

    def node(self, source: Any, depth: int, where: str | None = None) -> Node:
        where = where or self._place(source)
        self.num_nodes += 1
        if depth > _MAX_DEPTH or self.num_nodes > _MAX_NODES:
            raise SuiteError(f"{where}: {_TOO_DEEP}")
        if not str(source.tag).startswith(_CORE) or "/" in str(source.tag):
            raise SuiteError(f"{where}: tags are not allowed here, and '{source.tag}' is one; remove it")
        if isinstance(source, MappingNode):
            return Node(self._mapping(source, depth), where)
        if isinstance(source, SequenceNode):
            return Node([self.node(item, depth + 1) for item in source.value], where)
        return Node(self._scalar(source, where), where)

    def _mapping(self, source: Any, depth: int) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for key_source, value_source in source.value:
            where = self._place(key_source)
            key = self._key(key_source, where)
            if key in children:
                raise SuiteError(f"{where}: key '{key}' is written twice, first at {children[key].where}; keep one")
            children[key] = self.node(value_source, depth + 1, where)
        return children

    def _key(self, source: Any, where: str) -> str:
        if str(source.tag) == f"{_CORE}merge":
            raise SuiteError(f"{where}: merge keys (<<) are not supported; write the keys out or use a profile")
        key = self._scalar(source, where) if isinstance(source, ScalarNode) else None
        if not isinstance(key, str):
            found = f"'{source.value}'; put it in quotes" if isinstance(source, ScalarNode) else "a list or a mapping"
            raise SuiteError(f"{where}: a key must be text, not {found}")
        return key

    def _scalar(self, source: Any, where: str) -> str | int | float | bool | None:
        try:
            value = self.yaml.constructor.construct_object(source)
        except (YAMLError, ValueError):
            raise SuiteError(f"{where}: '{source.value}' cannot be read as a value; put it in quotes") from None
        if value is not None and not isinstance(value, str | int | float | bool):
            kind = "bytes" if isinstance(value, bytes) else "a date"
            raise SuiteError(f"{where}: '{source.value}' is read as {kind}; put it in quotes if text is meant")
        if isinstance(value, int) and not -_MOST <= value <= _MOST:
            raise SuiteError(f"{where}: '{source.value}' is too large a number; the largest is {_MOST}")
        if isinstance(value, float) and value - value != 0:
            raise SuiteError(f"{where}: '{source.value}' is no finite number")
        return value

    def _place(self, source: Any) -> str:
        return f"{self.shown}:{source.start_mark.line + 1}"
