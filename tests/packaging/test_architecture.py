"""docs/architecture.md shows what its example prints, names files that are there, and imports point as it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

MAY_IMPORT = {
    "kernels": {"errors"},
    "quant": {"errors", "kernels"},
    "recipe": {"errors", "quant"},
    "nn": {"errors", "kernels", "quant", "recipe"},
    "optim": {"errors", "kernels", "quant", "recipe", "nn"},
}
"""Of the layers that a method's numbers depend on: what they may import besides themselves."""


@pytest.mark.slow
def test_the_example_prints_what_the_page_shows() -> None:
    code, shown = (re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for kind in ("python", "text"))
    result = subprocess.run([sys.executable, "-c", *code], capture_output=True, text=True, timeout=120, check=False)
    assert [result.stdout] == shown, result.stderr


def test_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:nn|kernels|train|optim)/[\w/.]*)`", PAGE))
    assert named
    assert [name for name in sorted(named) if not (ROOT / "qbench" / name).exists()] == []


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_point_downwards(layer: str) -> None:
    found = {(path.relative_to(ROOT).as_posix(), part) for path in files_of(layer) for part in imported_parts(path)}
    assert {(path, part) for path, part in found if part not in MAY_IMPORT[layer] | {layer}} == set()


ROWS = [
    [part.removesuffix(".py") for part in re.findall(r"`([a-z_.]+)`", line.split("|")[1])]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
"""The folders and files of the page's table, from top to bottom."""

UPWARDS = {("suite", "theory")}
"""The exception that the page names."""


def test_imports_point_downwards_in_the_table_of_the_page() -> None:
    row_of = {part: number for number, row in enumerate(ROWS) for part in row}
    found = {(part, other) for part in row_of for path in files_of(part) for other in imported_parts(path)}
    up = {(part, other) for part, other in found if other in row_of and row_of[other] < row_of[part]}
    assert len(row_of) >= 16
    assert up == UPWARDS


def files_of(part: str) -> list[Path]:
    folder = ROOT / "qbench" / part
    return sorted(folder.rglob("*.py")) or [folder.with_suffix(".py")]


def imported_parts(path: Path) -> Iterator[str]:
    """The folders and files right under qbench that a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (module.split(".")[1] for module in modules if module.split(".")[0] == "qbench")
