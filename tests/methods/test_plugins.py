"""Methods from outside: the README's example as a plain file, an installed package, and files that are no plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from readme import README, code_block
from typer.testing import CliRunner

from qbench.cli.app import app

QBENCH = Path(sysconfig.get_path("scripts")) / "qbench"


EXAMPLE = code_block("python", "@method")
SUITE = code_block("yaml", "./mine.py")


def run(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """``qbench`` in a process of its own. path: a folder of packages beside the installed ones."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [QBENCH, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a call that must end with exit code 2 and print nothing else."""
    assert (result.returncode, result.stdout) == (2, ""), result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").strip()


# --- a plain file: the README's example


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the README's method and suite."""
    (tmp_path / "mine.py").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(SUITE, encoding="utf-8")
    return tmp_path


def test_example_has_no_more_lines_than_promised() -> None:
    assert "## Add a method in 20 lines" in README
    assert len(EXAMPLE.splitlines()) <= 20


@pytest.mark.slow
def test_example_passes_the_contract(project: Path) -> None:
    result = run("check", "./mine.py", cwd=project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("symmetric: Symmetric weights and activations")
    assert "passed  builds a recipe: quantises weight, activation" in result.stdout
    assert "FAILED" not in result.stdout


@pytest.mark.slow
def test_example_suite_runs(project: Path) -> None:
    result = run("run", "mine.yaml", "--profile", "quick", "--device", "cpu", cwd=project)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 of 4 cells done (4 now)" in result.stdout
    table = run("table", "mine", "--format", "csv", cwd=project).stdout
    assert {"fp32", "symmetric", "symmetric[bits=4]", "graham"} <= set(re.split(r"[,\n]", table))


def test_example_is_selected_on_the_command_line(project: Path) -> None:
    (selection,) = re.findall(r'-m "(\./mine\.py[^"]*)"', README)
    plan = run("run", "digits", "-m", "fp32", "-m", selection, "--dry-run", cwd=project)
    assert plan.returncode == 0, plan.stderr
    assert "9 cells: 3 methods x 1 model x 1 data set x 3 seeds" in plan.stdout


# --- an installed package

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "strangers-methods"
version = "1.0"

[project.entry-points."qbench.methods"]
{entry_points}

[tool.setuptools]
py-modules = ["strangers_methods"]
"""


def install(folder: Path, source: str, *entry_points: str) -> Path:
    """Install a package of one module with pip into a folder of its own; the folder."""
    package = folder / "source"
    package.mkdir()
    (package / "pyproject.toml").write_text(PYPROJECT.format(entry_points="\n".join(entry_points)), encoding="utf-8")
    (package / "strangers_methods.py").write_text(source, encoding="utf-8")
    target = folder / "packages"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    command = [*pip, "--no-build-isolation", "--no-deps", "--target", target, package]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return target


@pytest.mark.slow
def test_installed_package_is_listed_checked_and_planned(tmp_path: Path) -> None:
    packages = install(
        tmp_path,
        EXAMPLE,
        'symmetric = "strangers_methods:symmetric"',
        'absent = "strangers_methods:absent"',
        'renamed = "strangers_methods:symmetric"',
    )
    listing = run("list", "methods", cwd=tmp_path, path=packages)
    assert listing.returncode == 0, listing.stderr
    shown = dict(line.split(maxsplit=1) for line in listing.stdout.splitlines())
    assert shown["symmetric"] == "Symmetric weights and activations; gradients and updates stay float."
    # A broken one is named and hides no other.
    assert shown["absent"].startswith("cannot be loaded: entry point 'absent' = strangers_methods:absent does not load")
    assert shown["renamed"].endswith("is called 'symmetric'; give both one name")
    assert "banner8" in shown

    checked = run("check", "symmetric", cwd=tmp_path, path=packages)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "FAILED" not in checked.stdout

    plan = run("run", "smoke", "-m", "symmetric[bits=4]", "--dry-run", cwd=tmp_path, path=packages)
    assert "symmetric[bits=4]: Symmetric weights" in plan.stdout
    assert "unknown method 'symmetric'" in refusal(run("check", "symmetric", cwd=tmp_path))


@pytest.mark.slow
def test_name_collision_names_both_origins(tmp_path: Path) -> None:
    source = EXAMPLE.replace('"symmetric"', '"graham"')
    packages = install(tmp_path, source, 'graham = "strangers_methods:symmetric"')
    for arguments in (["list", "methods"], ["check", "graham"], ["run", "smoke", "-m", "graham"]):
        sentence = refusal(run(*arguments, cwd=tmp_path, path=packages))
        assert "two methods are called 'graham'" in sentence
        assert "qbench.methods.graham" in sentence
        assert "package strangers-methods (strangers_methods:symmetric)" in sentence
    assert not (tmp_path / "results").exists()


# --- bad files

NO_RECIPE = EXAMPLE.replace("-> Recipe", "-> int").replace("return Recipe()", "return 3").replace("== 32", "> 0")
RAISES = EXAMPLE.replace("    if bits == 32:\n", '    raise KeyError("levels")\n    if bits == 32:\n')
TWO = EXAMPLE + EXAMPLE.replace("symmetric", "another")
BAD_FILES = {
    "module that is missing": (
        "import no_such_module\n",
        "does not import: ModuleNotFoundError: No module named 'no_such_module' (bad.py, line 1)",
    ),
    "syntax error": ("def broken(:\n", "does not import: SyntaxError: invalid syntax (bad.py, line 1)"),
    "a script that exits": ("raise SystemExit(0)\n", "does not import: SystemExit: 0 (bad.py, line 1)"),
    "an exception that no handler expects": (
        "raise GeneratorExit\n",
        "does not import: GeneratorExit (bad.py, line 1)",
    ),
    "null options that are none": (
        EXAMPLE.replace('null={"bits": 32}', "null=32"),
        "): 'null' is a mapping of options, such as {'bits': 32}, not 32; change it",
    ),
    "one sentence in the place of several": (
        EXAMPLE.replace('null={"bits": 32}', 'deviations="no decay"'),
        "): 'deviations' is a tuple of sentences, not 'no decay'; change it",
    ),
    "presets that are none": (
        EXAMPLE.replace('null={"bits": 32}', 'presets={"paper": 8}'),
        "): 'presets' is a mapping of names to options, such as {'paper': {'bits': 8}}, not {'paper': 8}; change it",
    ),
    "a name that is no text": (EXAMPLE.replace('"symmetric"', "3"), "method '3' ("),
    "a transform that is none": (
        EXAMPLE.replace("activation=Symmetric(bits)", "transform='double'"),
        "): the recipe's transform is a function of the converted model, not 'double'",
    ),
    "a mistake of a function that is called": (
        "def broken():\n    return [][1]\n\n\nbroken()\n",
        "does not import: IndexError: list index out of range (bad.py, line 2)",
    ),
    "no method": ("from qbench import Recipe\n", "bad.py defines no method; decorate a function"),
    "several methods": (TWO, "bad.py has several methods; name one as file.py:name"),
    "no recipe": (NO_RECIPE, "must return a qbench.Recipe, not int"),
    "a method that raises": (RAISES, "fails: KeyError: 'levels' (bad.py, line 14)"),
    "a name that cannot be printed": (
        EXAMPLE.replace('"symmetric"', '"sym\\x1b[31m"'),
        "): a name is made of letters, digits, '.', '_' and '-'; choose another",
    ),
    "one name twice": (
        EXAMPLE + EXAMPLE.replace("def symmetric", "def other"),
        "two methods are called 'symmetric': one from ",
    ),
    "a format that does not exist": (
        EXAMPLE.replace("return Recipe(weight=Symmetric(bits", "return Recipe(weight=Symmetric(77"),
        "): Symmetric has from 2 to 24 bits, not 77; change its bits",
    ),
    "a slot that holds no format": (
        EXAMPLE.replace("activation=Symmetric(bits)", "activation='int8'"),
        "): the recipe's slot activation takes a number format or None, not 'int8'",
    ),
    "a norm that is none": (
        EXAMPLE.replace("activation=Symmetric(bits)", "norm=Symmetric(bits)"),
        "): the recipe's norm is a qbench.Norm, not Symmetric(",
    ),
    "a misspelt policy": (
        EXAMPLE.replace("activation=Symmetric(bits)", "first_layer='Float'"),
        "): the recipe's first_layer is one of 'quantized', 'float', not 'Float'",
    ),
    "a misspelt rounding": (
        EXAMPLE.replace("activation=Symmetric(bits)", "activation=Symmetric(bits, 'stochastc')"),
        "): the rounding of Symmetric is one of 'nearest', 'stochastic', not 'stochastc'",
    ),
    "an arithmetic that does not exist": (
        EXAMPLE.replace("activation=Symmetric(bits)", "arithmetics=('integers',)"),
        "): the recipe's arithmetics are some of 'simulated', 'integer', not ('integers',)",
    ),
    "a method that exits": (
        EXAMPLE.replace("    if bits == 32:\n", "    raise SystemExit(0)\n    if bits == 32:\n"),
        "fails: SystemExit: 0 (bad.py, line 14)",
    ),
    "a type that does not exist": (
        EXAMPLE.replace("-> Recipe", "-> 'Recipes'"),
        "its types cannot be read (NameError: name 'Recipes' is not defined); import or define what",
    ),
    "a type that no option has": (
        EXAMPLE.replace("Literal[4, 8, 16, 32] = 8", "slice = slice(8)"),
        "option 'bits': values of type slice cannot be checked; give it a type such as int, float, str or Literal",
    ),
    "positional option": (EXAMPLE.replace("*, bits", "bits"), "option 'bits' must be keyword-only and have a default"),
}


@pytest.mark.parametrize("verb", [("check",), ("run", "smoke", "-m")], ids=["check", "run"])
@pytest.mark.parametrize("what", BAD_FILES)
def test_bad_file_gets_one_sentence(
    what: str, verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sentence = BAD_FILES[what]
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(source, encoding="utf-8")
    result = CliRunner().invoke(app, [*verb, "./bad.py"])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1
    assert sentence in result.stderr
    assert "bad.py" in result.stderr
    assert not Path("results").exists()


def test_missing_file_and_unknown_method_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(EXAMPLE, encoding="utf-8")
    missing = CliRunner().invoke(app, ["check", "./other.py"])
    assert (missing.exit_code, missing.stderr) == (2, "error: plugin file other.py does not exist\n")
    unknown = CliRunner().invoke(app, ["check", "./mine.py:symetric"])
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "mine.py has no method 'symetric', did you mean 'symmetric'?" in unknown.stderr
