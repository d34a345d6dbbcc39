"""The package as a whole: what it contains, what its import costs, what it depends on, what it must not reveal."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import qbench

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("qbench", "methods") for path in (ROOT / folder).rglob("*.py"))


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def in_fresh_python(code: str) -> str:
    """What ``code`` prints in a process of its own."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- contents


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_builds_the_kernels_again_where_a_source_of_theirs_changed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / ".run-ready").touch()

    def planned(*options: str) -> str:
        command = ["make", "--dry-run", *options, f"VENV={tmp_path}", f"{tmp_path}/.run-ready"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "install" not in planned()
    kernels = ROOT / "qbench/kernels/cpu"
    sources = [ROOT / "setup.py", *kernels.glob("*.cpp"), *kernels.glob("*.h")]
    for source in sources:
        assert "--editable ." in planned(f"--what-if={source.relative_to(ROOT)}"), source


def test_listed_packages_are_the_folders(pyproject: dict[str, Any]) -> None:
    folders = [init.parent.relative_to(ROOT) for init in (ROOT / "qbench").rglob("__init__.py")]
    listed = pyproject["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(
        [".".join(folder.parts) for folder in folders] + ["qbench.methods", "qbench.suites"]
    )


def test_every_folder_with_python_is_a_package() -> None:
    bare = {path.parent for path in SOURCES if not (path.parent / "__init__.py").is_file()}
    assert not bare


def test_public_names_load_and_type_checkers_see_them() -> None:
    loaded = {name: getattr(qbench, name) for name in qbench.__all__}
    assert all(value is not None for value in loaded.values())
    tree = ast.parse((ROOT / "qbench" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = [alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(["__version__", *map(str, typed)]) == sorted(qbench.__all__)


# --- imports


def test_importing_qbench_is_light() -> None:
    code = (
        "import sys, qbench; print(sorted({'torch', 'numpy', 'matplotlib', 'pydantic', 'pandas'} & set(sys.modules)))"
    )
    assert in_fresh_python(code) == "[]\n"


TORCH_AND_NUMPY_ALONE = """
import importlib, sys

BLOCKED = {"pydantic", "pandas", "pyarrow", "matplotlib", "seaborn", "typer", "rich", "ruamel", "sklearn", "PIL"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for name in ("kernels.random", "kernels.products", "kernels.passes", "quant.quantize", "nn", "optim", "recipe"):
    importlib.import_module(f"qbench.{name}")
print(sorted((BLOCKED | {"numba"}) & set(sys.modules)))
"""


def test_numerical_core_needs_torch_and_numpy_alone() -> None:
    assert in_fresh_python(TORCH_AND_NUMPY_ALONE) == "[]\n"


@pytest.mark.parametrize("path", sorted((ROOT / "methods").glob("*.py")), ids=lambda path: path.stem)
def test_methods_see_public_names_only(path: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if is_import_of_qbench(node)]
    for node in imports:
        assert isinstance(node, ast.ImportFrom), f"line {node.lineno}: write 'from qbench import ...'"
        assert (node.module, node.level) == ("qbench", 0), f"line {node.lineno}: not a public module"
        assert {alias.name for alias in node.names} <= set(qbench.__all__)


def is_import_of_qbench(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] == "qbench" for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.level > 0 or str(node.module).partition(".")[0] == "qbench")


# --- dependencies


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def test_every_import_is_a_declared_dependency(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    declared = names(project["dependencies"]).union(*map(names, project["optional-dependencies"].values()))
    installed = packages_distributions()
    for top in sorted(set(imported_packages()) - set(sys.stdlib_module_names) - {"qbench"}):
        distributions = {canonicalize_name(name) for name in installed.get(top, [top])}
        assert distributions & declared, f"'{top}' is imported, and pyproject.toml does not list {distributions}"


def imported_packages() -> Iterator[str]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield node.module.partition(".")[0]


def test_constraints_pin_every_dependency_within_its_range(pyproject: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins)
    version = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(version) == len(pins)
    assert version["torch"] == "2.13.0"
    wanted = chain(pyproject["project"]["dependencies"], *pyproject["dependency-groups"].values())
    for requirement in map(Requirement, [*wanted, *pyproject["build-system"]["requires"]]):
        pinned = version.get(canonicalize_name(requirement.name), "nothing")
        assert pinned != "nothing", f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pinned), f"{requirement} excludes the pinned {pinned}"


# --- what is published

REVEALING = {
    "a path of one machine": r"(?<![\w.~$}])/(?:root|work|workspace|home/\w+|Users/\w+)/\w|[A-Z]:\\Users\\\w",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an access token": r"\b(?:gh[pousr]_\w{30}|github_pat_\w{30}|hf_\w{30}|AKIA[0-9A-Z]{16}|xox[abp]-\w{10}|sk-\w{32})",
}


def test_revealing_patterns_find_what_they_are_for() -> None:
    samples = ["see /home" + "/ann/x", "-----BEGIN RSA " + "PRIVATE KEY", "token=" + "ghp_" + "a1" * 18]
    for pattern, sample in zip(REVEALING.values(), samples, strict=True):
        assert re.search(pattern, sample)
        assert not re.search(pattern, "https://example.org/home/page, ~/imagenet, /usr/lib")


def test_nothing_published_reveals_a_machine_or_a_secret() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only a git checkout says which files are published")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [finding for name in files for finding in revelations(ROOT / name)]
    assert not found


def revelations(path: Path) -> Iterator[str]:
    if not path.is_file():
        return
    text = path.read_bytes().decode("utf-8", errors="ignore")
    for what, pattern in REVEALING.items():
        if match := re.search(pattern, text):
            yield f"{path.relative_to(ROOT)} holds {what}: {match[0]!r}"
