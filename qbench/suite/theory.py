"""Suites of ``kind: theory``: experiments with known answers, in place of methods that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from qbench.cell import Plain
from qbench.suite.choices import locate
from qbench.suite.nodes import Node, graft, merge, read_yaml
from qbench.suite.profiles import chosen_profile
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
    overlay = chosen_profile(root, profile, source.shown, _check)
    if overlay is not None:
        root = merge(root, overlay)
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


def _check(root: Node) -> None:
    check(TheoryFile, root)
    list(_experiments(root.at(["experiments"])))


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
