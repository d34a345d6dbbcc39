"""``qbench check``, and methods that are refused before they are checked or run."""

from __future__ import annotations

from pathlib import Path

import pytest
from verbs import qbench, refused


def test_check_of_a_directory(tmp_path: Path) -> None:
    folder = tmp_path / "mine.py"
    folder.mkdir()
    assert refused("check", str(folder)) == f"plugin file {folder} is a directory; name the .py file in it"


def test_check_prints_every_promise_and_fails_on_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from qbench.train import contract

    results = [contract.CheckResult("kept", True, "seen"), contract.CheckResult("broken", False, "not seen")]
    monkeypatch.setattr(contract, "check_method", lambda method, reference: results)
    result = qbench("check", "fp32")
    assert result.exit_code == 1
    assert "  passed  kept: seen\n  FAILED  broken: not seen\n1 of 2 checks failed\n" in result.stdout
    monkeypatch.setattr(contract, "check_method", lambda method, reference: results[:1])
    assert qbench("check", "fp32").exit_code == 0
    assert "did you mean 'fp32'" in refused("check", "fp33")


def test_what_a_method_says_of_itself_cannot_move_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qbench.train import contract

    monkeypatch.setattr(contract, "check_method", lambda method, reference: [])
    file = tmp_path / "mine.py"
    file.write_text(
        "import qbench\n@qbench.method('mine', null={})\ndef mine():\n"
        "    'Nothing\\x1b[2J at all.'\n    return qbench.Recipe()\n"
    )
    assert qbench("check", str(file)).stdout.startswith("mine: Nothing [2J at all.\n")


NO_DEFAULT = {
    "float = float('nan')": "its default nan cannot be used, input should be a finite number",
    "float = float('-inf')": "its default -inf cannot be used, input should be a finite number",
    "tuple[float, ...] = (1.0, float('inf'))": "its default (1.0, inf) cannot be used, input should be a finite number",
    "Any = float('nan')": "its default nan cannot be used, input should be a finite number",
    "Annotated[int, Interval(ge=5, le=3)] = 4": "its default 4 cannot be used, input should be less than",
    "Annotated[float, Ge(float('nan'))] = 1.0": "its default 1.0 cannot be used, input should be greater",
}


@pytest.mark.parametrize("arguments", [("check",), ("run", "smoke", "-m")])
@pytest.mark.parametrize(("written", "message"), NO_DEFAULT.items())
def test_a_default_that_cannot_be_is_refused_with_its_place(
    arguments: tuple[str, ...], written: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(
        "from typing import Annotated, Any\nfrom annotated_types import Ge, Interval\n"
        "from qbench import Recipe, method\n"
        f"@method('mine', null={{}})\ndef mine(*, step: {written}) -> Recipe:\n    return Recipe()\n"
    )
    said = refused(*arguments, str(file))
    assert f"{file}:4: method 'mine', option 'step': {message}" in said
    assert said.endswith("; change the default or the type")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] in ([], ["__pycache__"])


@pytest.mark.parametrize("arguments", [("check",), ("run", "smoke", "-m")])
def test_an_option_without_a_type_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from qbench import Recipe, method\n@method('mine', null={})\ndef mine(*, step=1):\n    return Recipe()\n"
    )
    said = refused(*arguments, str(file), *(("--dry-run",) if arguments[0] == "run" else ()))
    assert said.endswith(f"method 'mine' ({file}:2): option 'step' has no type; write step: int, for example")
