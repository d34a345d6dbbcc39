"""``qbench list``: what there is to choose from."""

from __future__ import annotations

import re

import pytest
from verbs import qbench, refused

from qbench import catalog, data, models, probes, theory
from qbench.errors import PluginError
from qbench.factory import Factory
from qbench.plugin import Method
from qbench.registry import Registry


def test_list_methods() -> None:
    lines = qbench("list", "methods").stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == sorted(names)
    assert {"fp32", "bf16", "banner8", "wageubn", "graham", "binaryconnect", "sr", "r"} <= set(names)


def test_list_verbose_shows_options_with_defaults() -> None:
    text = qbench("list", "methods", "-v").stdout
    assert "option bits: int from 1 to 16 | 32 = 8" in text
    assert "paper: arXiv:1805.11046" in text


def test_list_verbose_says_what_options_mean() -> None:
    lines = [line.strip() for line in qbench("list", "methods", "-v").stdout.splitlines()]
    last = lines.index("option energy_correction: bool = False")
    assert lines[last + 1].startswith("bits: of the stored code (32: not quantised). grid: the fixed levels")
    assert "k: epochs to look back." in qbench("list", "probes", "-v").stdout


@pytest.mark.parametrize("registry", [models.registry, data.registry, probes.registry, theory.registry])
def test_every_option_of_everything_listed_is_explained(registry: Registry[Factory[object]]) -> None:
    factories = [entry.load() for entry in registry]
    assert any(factory.options for factory in factories)
    for factory in factories:
        for option in factory.options:
            assert re.search(rf"\b{option.name}\b", factory.explanation), f"{factory.name}: {option.name}"


def test_a_plugin_that_fails_in_several_lines_is_listed_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Method:
        raise PluginError("one\ntwo")

    found: Registry[Method] = Registry("method")
    found.add("mine", "here", broken)
    monkeypatch.setattr(catalog, "methods", lambda: found)
    assert qbench("list", "methods").stdout == "mine  cannot be loaded: one two\n"


@pytest.mark.parametrize(
    ("what", "name"), [("models", "resnet20"), ("datasets", "glyphs"), ("suites", "smoke"), ("plots", "curves")]
)
@pytest.mark.parametrize("flags", [(), ("-v",)])
def test_list_other_kinds(what: str, name: str, flags: tuple[str, ...]) -> None:
    result = qbench("list", what, *flags)
    assert result.exit_code == 0
    assert any(line.startswith(f"{name} ") for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("datasets", "option validation_fraction: float above 0 and below 1 = 0.01"),
        ("experiments", "option minimum: float above 0.0 and below 0.5 = 0.3"),
        ("experiments", "option fraction_bits: list of int from 0 to 6 = [0, 1, 2]"),
        ("methods", "option momentum: float from 0.0 to below 1.0 in steps of 0.25 = 0.25"),
    ],
)
def test_bounds_are_listed_as_they_are(what: str, line: str) -> None:
    assert line in map(str.strip, qbench("list", what, "-v").stdout.splitlines())


def test_models_sort_by_their_depth() -> None:
    names = [line.split()[0] for line in qbench("list", "models").stdout.splitlines()]
    assert names.index("resnet8") < names.index("resnet14")


def test_list_unknown_kind() -> None:
    assert refused("list", "method") == "nothing called 'method' to list, did you mean 'methods'?"
