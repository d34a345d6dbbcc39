"""Probes in a suite file and on the command line: read, checked, planned, part of the key, listed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qbench.cell import Cell, ProbeChoice
from qbench.cli.app import app
from qbench.errors import InputError
from qbench.options import OptionSet
from qbench.probes import build_probes, find_quantity, probe_names, registry
from qbench.store import Keys, keys
from qbench.suite import Overrides, load_suite
from qbench.suite.source import suite_names
from qbench.suite.theory import suite_kind

BASE = "name: base\nmodel: mlp\ndataset: digits\nseeds: [0]\nmethods: [fp32]\n"
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_suite(text: str) -> str:
        Path("s.yaml").write_text(text)
        return "s.yaml"

    return write_suite


def chosen(*pairs: tuple[str, dict[str, object]]) -> tuple[ProbeChoice, ...]:
    return tuple(ProbeChoice(name=name, options=options) for name, options in pairs)


@pytest.mark.parametrize(
    "text",
    [
        "probes: [cosine, {weight_change: {k: 5}}]\n",
        "probes:\n  - cosine:\n  - weight_change:\n      k: 5\n",
        "probes: [cosine, 'weight_change[k=5]']\n",
    ],
)
def test_forms(write: Write, text: str) -> None:
    suite = load_suite(write(BASE + text))
    assert suite.probes == chosen(("cosine", {}), ("weight_change", {"k": 5}))
    assert [cell.probes for cell in suite.cells()] == [suite.probes]


def test_defaults_are_filled_in_and_none_is_the_default(write: Write) -> None:
    assert load_suite(write(BASE + "probes: [weight_change]\n")).probes == chosen(("weight_change", {"k": 1}))
    assert load_suite(write(BASE)).probes == ()
    assert load_suite(write(BASE + "probes: []\n")).probes == ()


def test_a_profile_and_the_command_line_replace_them(write: Write) -> None:
    path = write(BASE + "probes: [cosine]\nprofiles:\n  full: {probes: [sqnr, drift]}\n  none: {probes: []}\n")
    assert load_suite(path, profile="full").probes == chosen(("sqnr", {}), ("drift", {}))
    assert load_suite(path, profile="none").probes == ()
    overrides = Overrides(probes=("updates", "weight_change[k=2]"))
    assert load_suite(path, profile="full", overrides=overrides).probes == chosen(
        ("updates", {}), ("weight_change", {"k": 2})
    )


@pytest.mark.parametrize("suite", [name for name in suite_names() if suite_kind(name) == "train"])
def test_every_built_in_suite_takes_every_probe(suite: str) -> None:
    loaded = load_suite(suite, overrides=Overrides(probes=tuple(probe_names())))
    assert [probe.name for probe in loaded.probes] == probe_names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("probes: [cosin]\n", r"s.yaml:6: unknown probe 'cosin', did you mean 'cosine'\?"),
        ("probes:\n  - cosine\n  - {weight_chang: {k: 2}}\n",
         r"s.yaml:8: unknown probe 'weight_chang', did you mean 'weight_change'\?"),
        ("probes:\n  - weight_change:\n      kk: 2\n",
         r"s.yaml:8: probe 'weight_change' has no option 'kk', did you mean 'k'\?"),
        ("probes:\n  - weight_change:\n      k: 0\n", r"s.yaml:8: probe 'weight_change', option 'k': .*, not 0"),
        ("probes: [{weight_change: {k: [1, 2]}}]\n", r"s.yaml:6: probe 'weight_change', option 'k': .*integer.*"),
        ("probes: ['weight_change[k=1,2]']\n", r"s.yaml:6: option 'k' of probe 'weight_change' takes one value"),
        ("probes: ['weight_change[k']\n", r"s.yaml:6: 'weight_change\[k' is no selection of a probe; .*"),
        ("probes: [{weight_change: 5}]\n", r"s.yaml:6: the options of 'probes\[0\]' must be a mapping; .*"),
        ("probes: [cosine, {cosine: {}}]\n", r"s.yaml:6: probe 'cosine' is already at s.yaml:6; keep one"),
        ("probes: [3]\n", r"s.yaml:6: 'probes\[0\]' is no probe; write NAME or \{NAME: \{option: value\}\}"),
        ("probes: [{cosine: {}, sqnr: {}}]\n", r"s.yaml:6: 'probes\[0\]' is no probe; .*"),
        ("probes: cosine\n", r's.yaml:6: \'probes\' must be a list, not "cosine"'),
        ("probe: [cosine]\n", r"s.yaml:6: unknown key 'probe', did you mean 'probes'\?"),
        ("profiles:\n  x: {probes: 3}\n", r"s.yaml:7: 'probes' must be a list, not 3"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_with_file_and_line(write: Write, text: str, message: str) -> None:
    path = write(BASE + text)
    with pytest.raises(InputError) as caught:
        load_suite(path)
    assert re.fullmatch(message, str(caught.value))
    result = CliRunner().invoke(app, ["run", path, "--dry-run"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_mistakes_on_the_command_line(write: Write) -> None:
    path = write(BASE)
    result = CliRunner().invoke(app, ["run", path, "--dry-run", "--probe", "cosin"])
    assert (result.exit_code, result.stderr) == (
        2, "error: --probe: unknown probe 'cosin', did you mean 'cosine'?\n"
    )  # fmt: skip
    result = CliRunner().invoke(app, ["run", "rounding_theory", "--probe", "cosine"])
    assert result.exit_code == 2
    assert "--probe" in result.stderr


def test_the_plan_names_them_and_says_what_has_no_effect(write: Write) -> None:
    path = write(BASE + "train: {epochs: 3}\nprobes: [cosine, {weight_change: {k: 5}}]\n")
    result = CliRunner().invoke(app, ["run", path, "--dry-run"])
    assert "probes: cosine, weight_change[k=5]\n" in result.stdout
    assert "note: probe 'weight_change' compares nothing with 5 epochs ago: training takes 3\n" in result.stdout


# --- keys


def key_of(cell: Cell) -> str:
    return Keys(threads=1, fingerprint=lambda name, root, options: "content").cell(cell)


def test_a_key_depends_on_probes_only_where_there_are_some(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_suite(write(BASE)).cells()[0]
    contents: list[str] = []
    digest = keys.digest
    monkeypatch.setattr(keys, "digest", lambda content: contents.append(json.dumps(content)) or digest(content))
    probed = [
        plain.model_copy(update={"probes": probes})
        for probes in (
            chosen(("cosine", {})), chosen(("weight_change", {"k": 1})), chosen(("weight_change", {"k": 2})),
            chosen(("cosine", {}), ("sqnr", {})),
        )
    ]  # fmt: skip
    found = [key_of(cell) for cell in (plain, *probed)]
    assert len(set(found)) == 5
    assert not re.search("prob|observ", contents[0])  # an earlier version's key, had it the same sources
    assert key_of(plain.model_copy(update={"probes": chosen(("sqnr", {}), ("cosine", {}))})) == found[-1]
    measure = [Keys(threads=1, fingerprint=lambda *_: "content").measure(cell) for cell in (plain, probed[0])]
    assert measure[0] == measure[1]


# --- the registry


def test_listing_names_every_probe_and_quantity() -> None:
    result = CliRunner().invoke(app, ["list", "probes", "-v"])
    assert result.exit_code == 0
    for entry in registry:
        factory = entry.load()
        assert f"{entry.name} " in result.stdout
        assert factory.description in result.stdout
        for quantity in factory.build({}).quantities:
            assert f"    {quantity.name}: {quantity.title}" in result.stdout
    assert "    option k: int of at least 1 = 1\n" in result.stdout


@pytest.mark.parametrize("name", probe_names())
def test_a_probe_is_documented_and_remembers_nothing_of_another_training(name: str) -> None:
    factory = registry.get(name)
    assert isinstance(factory._option_set, OptionSet)
    text = factory.function.__doc__ or ""
    assert all(f"{option.name}:" in text for option in factory.options)
    first, second = (build_probes(chosen((name, factory.resolve({}))))[name] for _ in range(2))
    assert first is not second
    names = [quantity.name for quantity in first.quantities]
    assert len(names) == len(set(names)) > 0
    class_text = type(first).__doc__ or ""
    assert all(re.search(rf"\b{quantity}\b", class_text) for quantity in names)


def test_a_quantity_of_another_version_is_shown_by_its_name() -> None:
    assert find_quantity("cosine", "sine").title == "cosine: sine"
    assert find_quantity("gone", "sine").title == "gone: sine"
    assert find_quantity("cosine", "angle").unit == "degrees"
    assert find_quantity("weight_change", "code_since_k", {"k": 3}).title.endswith("since 3 epochs ago")


def test_choosing_and_listing_probes_imports_no_torch_and_no_matplotlib() -> None:
    code = (
        "import sys, qbench.probes as p; [e.load().build({}).quantities for e in p.registry]; "
        "print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
