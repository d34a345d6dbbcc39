from __future__ import annotations

import pytest

PLUGIN = '''
from typing import Literal
from qbench import Bits, Recipe, method

@method("mine", null={})
def mine(*, bits: Bits = 8, mode: Literal["near", "far"] = "near") -> Recipe:
    """A method of the user's own."""
    return Recipe()

@method("whole", null={})
def whole() -> Recipe:
    """Simulated arithmetic only."""
    return Recipe(arithmetics=("simulated",))

@method("broken")
def broken(*, bits: Bits = 8) -> Recipe:
    """Its code fails."""
    raise ZeroDivisionError("division by zero")

@method("none")
def none() -> Recipe:
    """Returns no recipe."""
    return 3
'''

BASE = """name: base
model: mlp
dataset: digits
seeds: [0, 1]
train: {epochs: 2}
methods:
  - fp32
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a suite file, with a plugin beside it, and makes its directory the working one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PLUGIN)

    def write_suite(text: str, name: str = "s.yaml") -> str:
        (tmp_path / name).write_text(text)
        return name

    return write_suite


@pytest.fixture
def base():
    return BASE
