"""Suites of ``kind: theory``: experiments with known answers, in place of methods that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qbench.cell import Plain
from qbench.errors import SuiteError, UnknownNameError
from qbench.registry import nearest
from qbench.suite.choices import locate
from qbench.suite.nodes import Node, graft, merge, read_yaml
from qbench.suite.schema import SuiteKind, TheoryFile, check
from qbench.suite.source import find_source
from qbench.theory import find_experiment


class PlannedExperiment(Plain):
    """One experiment of a suite. options: all of them; changed: those that are not the default."""

    name: str
    options: dict[str, Any]
    changed: dict[str, Any]


class TheorySuite(Plain):
    """A theory suite after checking: profile and command line applied, every option filled in.

    source: the file, as shown in messages.
    """

    kind: Literal["theory"] = "theory"
    name: str
    description: str = ""
    profile: str | None = None
    seed: int
    experiments: tuple[PlannedExperiment, ...]
    source: str = Field(default="", exclude=True)


def suite_kind(name_or_path: str | Path) -> SuiteKind:
    """Which kind of suite a file describes; ``train`` unless it says ``theory``, whatever else is wrong with it."""
    source = find_source(str(name_or_path))
    kind = read_yaml(source.text, source.shown).get("kind")
    return "theory" if kind is not None and kind.value == "theory" else "train"


def load_theory_suite(name_or_path: str | Path, *, profile: str | None = None, seed: int | None = None) -> TheorySuite:
    """Read and check a theory suite: a built-in name (``rounding_theory``) or the path of a YAML file.

    profile: one of the file's ``profiles``, merged over it. seed: in place of the file's. Raises :class:`SuiteError` or
    another InputError: one sentence with file and line.
    """
    source = find_source(str(name_or_path))
    root = read_yaml(source.text, source.shown)
    for name, overlay in _profiles(root).items():
        _check_profile(name, overlay, root)
    if profile is not None:
        root = merge(root, _profile(root, profile, source.shown))
    if seed is not None:
        root = merge(root, graft({"seed": seed}, "--seeds"))
    file = check(TheoryFile, root)
    return TheorySuite(
        name=file.name,
        description=file.description,
        profile=profile,
        seed=file.seed,
        experiments=tuple(_experiments(root.at(["experiments"]))),
        source=source.shown,
    )


def _profiles(root: Node) -> dict[str, Node]:
    profiles = root.get("profiles")
    # What is no mapping the schema's check of the whole file refuses in better words.
    return profiles.value if profiles is not None and isinstance(profiles.value, dict) else {}


def _profile(root: Node, name: str, shown: str) -> Node:
    profiles = _profiles(root)
    if name not in profiles:
        raise UnknownNameError(f"{shown}: unknown profile '{name}'{nearest(name, list(profiles))}")
    return profiles[name]


def _check_profile(name: str, overlay: Node, root: Node) -> None:
    """A mistake in a profile shows before it is needed."""
    for key in ("name", "kind", "profiles"):
        found = overlay.get(key)
        if found is not None:
            raise SuiteError(f"{found.where}: profile '{name}' cannot change '{key}'")
    if isinstance(overlay.value, dict):
        merged = merge(root, overlay)
        check(TheoryFile, merged)
        list(_experiments(merged.at(["experiments"])))


def _experiments(node: Node) -> Iterator[PlannedExperiment]:
    assert isinstance(node.value, dict)
    for name, given in node.value.items():
        experiment = locate(given.where, partial(find_experiment, name))
        options = given.value if isinstance(given.value, dict) else {}
        for option, value in options.items():
            # One at a time, so that a complaint names the line.
            locate(value.where, partial(experiment.resolve, {option: value.plain()}))
        resolved = experiment.resolve({option: value.plain() for option, value in options.items()})
        defaults = experiment.resolve({})
        changed = {option: value for option, value in resolved.items() if value != defaults[option]}
        yield PlannedExperiment(name=name, options=resolved, changed=changed)
