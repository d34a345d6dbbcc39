"""The pages of docs/methods and the tables of ``qbench list methods -v``: made from the recipes, never stale."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qbench import (
    Affine,
    Binary,
    Constant,
    Direct,
    FixedPoint,
    Flag,
    Float,
    Levels,
    Quantizer,
    Recipe,
    Shift,
    Symmetric,
)
from qbench.catalog import find_method, methods
from qbench.cli.app import app
from qbench.cli.datapaths import data_paths, describe, formats_in_words
from qbench.cli.method_pages import COMMAND, method_pages, write_pages

DOCS = Path(__file__).parents[2] / "docs" / "methods"


def test_pages_are_what_the_command_makes() -> None:
    """Run the command, ``qbench list methods --docs docs/methods``, where this fails."""
    there = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*")}
    assert there == method_pages(), f"docs/methods is stale: run {COMMAND}"


def test_command_writes_the_pages_and_removes_old_ones_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "gone.md").write_text(method_pages()["fp32.md"], encoding="utf-8")
    theirs = {"notes.txt": "not a page", "thesis.md": f"See `{COMMAND}`.\n"}
    for name, text in theirs.items():
        (folder / name).write_text(text, encoding="utf-8")
    for _ in range(2):
        result = CliRunner().invoke(app, ["list", "methods", "--docs", str(folder)])
        assert result.exit_code == 0
        assert f"{len(method_pages())} pages" in result.stdout
    assert {path.name for path in folder.iterdir()} == {*method_pages(), *theirs}
    assert {name: (folder / name).read_text(encoding="utf-8") for name in theirs} == theirs
    assert all(path.stat().st_size for path in write_pages(folder))


@pytest.mark.parametrize("name", ["README.md", "fp32.md"])
def test_a_file_that_is_not_a_page_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("# Mine\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["list", "methods", "--docs", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: --docs: {tmp_path / name} was not written by qbench; move it away or choose another directory\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "# Mine\n"


def test_only_methods_have_pages(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["list", "models", "--docs", str(tmp_path / "pages")])
    assert result.exit_code == 2
    assert "only methods have pages" in result.stderr
    assert not (tmp_path / "pages").exists()


@pytest.mark.parametrize("name", methods().names())
def test_every_page_tells_the_whole_method(name: str) -> None:
    method = find_method(name)
    page = method_pages()[f"{name}.md"]
    assert method.summary in page
    assert all(f"| {option.name} |" in page for option in method.options)
    assert all(f"`{preset}`" in page for preset in method.presets)
    assert all(deviation in page for deviation in method.deviations)
    assert all(f"| {path} |" in page for path in "WAEGUN")


def test_listing_shows_every_data_path() -> None:
    lines = CliRunner().invoke(app, ["list", "methods", "-v"]).stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("wage "))
    block = lines[start : lines.index("", start)]
    shown = {tuple(line.split()[:2]) for line in block if line[4:6] in {f"{path} " for path in "WAEGUN"}}
    assert shown == {
        ("W", "weight"), ("A", "activation"), ("A", "input"), ("E", "error"), ("G", "gradient"), ("U", "update"),
        ("N", "norm"),
    }  # fmt: skip
    text = "\n".join(block)
    assert "multiples of 2^-1 clipped at ±0.5, nearest" in text
    assert "option gradient_bits: int from 2 to 16 | 32 = 8" in text
    assert "deviates: errors keep their power-of-two scale" in text


def test_formats_in_words() -> None:
    assert describe(None) == "float32"
    assert describe(FixedPoint(2, 14, "stochastic")) == "fixed point <2, 14>, stochastic rounding"
    assert describe(Binary("glorot")) == "±the layer's Glorot coefficient, the sign"
    assert describe(Affine(8)) == "8-bit affine per tensor, whole zero point, extremes, nearest"


def test_a_strangers_format_describes_itself() -> None:
    @dataclass(frozen=True)
    class Posit(Quantizer):
        bits: int = 8

    rows = data_paths(Recipe(weight=Posit()))
    assert rows[0].format.endswith("Posit(bits=8)")


@pytest.mark.parametrize("name", methods().names())
def test_rows_name_every_slot_in_use(name: str) -> None:
    """For each preset too: no quantised path is left out of the table."""
    method = find_method(name)
    for options in ({}, *({"preset": preset} for preset in method.presets)):
        recipe = method.build(options)
        shown = {row.slot for row in data_paths(recipe)}
        used = {slot for slot, value in recipe.slots().items() if isinstance(value, Quantizer)}
        assert used <= shown


@pytest.mark.parametrize(
    "spec",
    [
        Affine(4, "stochastic", "min_offset", "channel", "mean_minmax", tracked=True), Binary("glorot"), Constant(),
        Direct(8, limit=None), FixedPoint(2, 6), Flag(8), Float("bfloat16"), Levels(4), Shift(8), Symmetric(16),
    ],
    ids=str,
)  # fmt: skip
def test_a_format_in_a_manifest_reads_as_on_the_pages(spec: Quantizer) -> None:
    assert formats_in_words(str(spec)) == describe(spec)
    words = describe(spec)
    assert formats_in_words(f"first {spec}; then {spec} behind it") == f"first {words}; then {words} behind it"


@pytest.mark.parametrize(
    "text", ["Posit(bits=8)", "Affine(bits=8, base=3)", "Flag(bits=)", "Flag(bits=99)", "Shift(a=b c)"]
)
def test_a_format_that_this_version_does_not_have_stays_as_it_is(text: str) -> None:
    assert formats_in_words(text) == text
