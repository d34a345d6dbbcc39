"""The ``methods:`` list of a suite, in its short and long forms, and what the command line picks from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qbench.catalog import find_method
from qbench.cell import Plain
from qbench.errors import InputError, PluginError, SuiteError
from qbench.plugin import Method, located
from qbench.recipe import Recipe
from qbench.registry import nearest
from qbench.suite.choices import expand, locate, values_of
from qbench.suite.nodes import Node
from qbench.suite.schema import MethodEntry, check
from qbench.suite.selection import parse_selection
from qbench.suite.source import shorten
from qbench.train.settings import TrainSettings

_FORM = "write NAME, {NAME: {option: value}}, or {method: NAME, options: {...}}"


class Entry(Plain):
    """One method with all its options, and how it is trained.

    method: a name, or path/to/file.py:name. label: its name in tables, unique within a suite.
    """

    method: str
    label: str
    options: dict[str, Any]
    train: TrainSettings
    because: str | None = None

    def recipe(self) -> Recipe:
        """The recipe of this entry."""
        return build_recipe(find_method(self.method), self.options)


@dataclass(frozen=True)
class Draft:
    """An entry as written: options may have several values, and nothing is checked against the method yet.

    taken: labels that other entries may bear; where this one's own would be one of them, it names the options given.
    """

    method: Method
    reference: str
    options: dict[str, list[Node]]
    where: str
    train: Node | None = None
    because: str | None = None
    label: str | None = None
    taken: frozenset[str] = frozenset()

    def combinations(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Every combination of option values: its label and its full options."""
        combinations = list(expand(self.options, self._resolve, self.where))
        for options in combinations:
            label = self.method.label(options)
            if label in self.taken:
                given = {key: options[key] for key in self.options if key in options}  # a preset is none of them
                label = self.method.labelled(given or options)
            if self.label is not None:
                changes = label.removeprefix(self.method.name) if len(combinations) > 1 else ""
                label = self.label + changes
            yield label, options

    def _resolve(self, options: Any) -> dict[str, object]:
        resolved = self.method.resolve(options)
        build_recipe(self.method, options)
        return resolved


def build_recipe(method: Method, options: Any) -> Recipe:
    """``method.build``, where a failure of the method's own code becomes a :class:`PluginError`."""
    try:
        return method.build(options)
    except InputError:
        raise
    except Exception as error:
        cause = located(error, method.source_file)
        raise PluginError(f"method '{method.name}' ({method.origin}) fails: {cause}") from error


def read_drafts(node: Node, folder: Path) -> list[Draft]:
    """The entries of the ``methods:`` list ``node``; ``folder``: what plugin paths start from."""
    assert isinstance(node.value, list)
    return [_read_draft(item, folder, position) for position, item in enumerate(node.value)]


def _read_draft(item: Node, folder: Path, position: int) -> Draft:
    if isinstance(item.value, str):
        return select(item.value, item.where, folder)
    if not isinstance(item.value, dict) or not item.value:
        raise SuiteError(f"{item.where}: 'methods[{position}]' is no method; {_FORM}")
    if "method" in item.value:
        return _read_long(item, folder, position)
    if len(item.value) > 1:
        known = list(MethodEntry.model_fields)
        hint = next((nearest(key, known) for key in item.value if key not in known), "")
        raise SuiteError(f"{item.where}: 'methods[{position}]' has several keys and none is 'method'{hint}; {_FORM}")
    ((reference, options),) = item.value.items()
    return _short(reference, options, folder, position)


def _short(reference: str, options: Node, folder: Path, position: int) -> Draft:
    if options.value is None:
        options = Node({}, options.where)
    if not isinstance(options.value, dict):
        raise SuiteError(f"{options.where}: the options of 'methods[{position}]' must be a mapping; {_FORM}")
    return _draft(reference, values_of(options), options.where, folder)


def _read_long(item: Node, folder: Path, position: int) -> Draft:
    entry = check(MethodEntry, item, ("methods", position))
    options = item.get("options")
    draft = _draft(entry.method, values_of(options) if options else {}, item.at(["method"]).where, folder)
    return replace(draft, train=item.get("train"), because=entry.because, label=entry.label)


def select(text: str, where: str, folder: Path) -> Draft:
    """The entry that a selection such as ``graham[bits=2,3]`` describes."""
    selection = parse_selection(text, where)
    return _draft(selection.reference, selection.options, where, folder)


def _draft(reference: str, options: dict[str, list[Node]], where: str, folder: Path) -> Draft:
    anchored = _anchor(reference, folder)
    return Draft(locate(where, lambda: find_method(anchored)), anchored, options, where)


def _anchor(reference: str, folder: Path) -> str:
    """A plugin's path, made independent of where the suite file lies; names stay as they are."""
    path, colon, name = reference.rpartition(":")
    if reference.endswith(".py"):
        path, colon, name = reference, "", ""
    return shorten(folder / Path(path).expanduser()) + colon + name if path.endswith(".py") else reference


def pick(drafts: Sequence[Draft], selections: Sequence[str], where: str) -> list[Draft]:
    """What ``selections`` (of the command line) leave of a suite's entries, and what they add.

    A bare name keeps the suite's entries of that method as they are written. A selection with options makes a new
    entry, trained as the suite trains that method.
    """
    picked: list[Draft] = []
    for text in selections:
        wanted = select(text, where, Path())
        same = [draft for draft in drafts if draft.reference == wanted.reference]
        if same and not wanted.options:
            picked.extend(replace(draft, where=where) for draft in same)
            continue
        like = same[0] if same else wanted
        taken = frozenset(draft.label for draft in same if draft.label is not None)
        picked.append(replace(wanted, train=like.train, because=like.because, taken=taken))
    return picked
