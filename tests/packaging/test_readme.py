"""README.md shows the tables of the reference runs, not any typed by hand, and its examples run as they stand."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from readme import code_block

ROOT = Path(__file__).parents[2]


def test_readme_holds_the_reference_tables() -> None:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "results/reference/refresh.py")
    assert spec is not None
    assert spec.loader is not None
    refresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    readme = (ROOT / "README.md").read_text()
    assert refresh.with_table(readme, ROOT / "results/reference/digits") == readme
    assert refresh.with_speeds(readme, refresh.SPEEDS) == readme


@pytest.mark.slow
def test_training_loop_of_ones_own_runs(tmp_path: Path) -> None:
    printed = run(code_block("python", "save_checkpoint"), tmp_path)
    accuracy, *manifest = printed.splitlines()
    found = re.fullmatch(r"([0-9.]+) % of 297 right", accuracy)
    assert found and float(found[1]) > 85  # a tenth by chance
    assert manifest and all(line.endswith(" integer") for line in manifest)
    # 28,960 weights of a byte each, and the norms and headers beside them.
    assert 29_000 < (tmp_path / "digits.npz").stat().st_size < 45_000


@pytest.mark.slow
def test_kernels_run_as_shown(tmp_path: Path) -> None:
    shown = code_block("python", "conv2d_s8")
    checks = """
exact = torch.nn.functional.conv2d(x.double(), w.double(), stride=2, padding=1)
assert y.dtype == torch.int32 and y.shape == (8, 32, 16, 16) and torch.equal(y.double(), exact)
# 256 steps for 256 codes: with the zero point rounded, the largest value lies up to 1.5 steps beyond the last code.
assert codes.dtype == torch.uint8 and error.abs().max() < 1.51 * scale and error.mean().abs() < scale / 50
"""
    run(shown + checks, tmp_path)


def run(program: str, folder: Path) -> str:
    """What a program prints that runs in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
