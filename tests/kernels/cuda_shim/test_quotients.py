"""The encoders divide by one number many times over, with its reciprocal: the quotients are those of a division."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from emulated_driver import FLAGS, HEADER

from qbench.kernels.cuda import sources

PROGRAM = Path(__file__).with_name("quotients.cpp")
PAIRS = 5_000_000


@pytest.mark.slow
def test_quotients_are_those_of_a_division(build_folder: Path, tmp_path: Path) -> None:
    text, program = tmp_path / "quotients.cpp", tmp_path / "quotients"
    text.write_text(f'#include "{HEADER}"\n{sources.expanded("encoder.cuh")}#include "{PROGRAM}"\n')
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-O1")]
    subprocess.run(["g++", *flags, "-O2", str(text), "-o", str(program)], check=True)
    run = subprocess.run([str(program), str(PAIRS)], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "")
