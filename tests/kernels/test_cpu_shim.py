"""The models of instructions, with which levels are tested that a CPU lacks, against those of a CPU that has them.

The programs are compiled everywhere, so that they keep up with the models.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import cpu_emulation
import pytest
from cpu_emulation import SHIM

from qbench.kernels import cpu

pytestmark = pytest.mark.skipif(bool(cpu_emulation.why_not()), reason=cpu_emulation.why_not())

AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
TARGETS = {
    "avx512": AVX512,
    "avxvnni": ("-mavx2", "-mavxvnni"),
    "avx512vnni": (*AVX512, "-mavx512vnni"),
    "amx": (*AVX512, "-mamx-tile", "-mamx-int8"),
}
MODEL = re.compile(r"^(?:MODEL|inline) \w+ (_mm\w+|_k\w+|_tile\w+)\(", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("level", TARGETS)
def test_models_agree_with_the_cpu(level: str, tmp_path: Path) -> None:
    source, program = SHIM / f"check_{level}.cpp", tmp_path / "check"
    command = [str(cpu_emulation.CXX), *cpu_emulation.FLAGS, *TARGETS[level], str(source), "-o", str(program)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[:4000]
    if level not in cpu.levels():
        pytest.skip(f"this CPU has no {level}: the program is compiled only")
    done = subprocess.run([str(program)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_model_is_compared() -> None:
    models = {name for file in ("immintrin.h", "tiles.h") for name in MODEL.findall((SHIM / file).read_text())}
    programs = " ".join(path.read_text() for path in SHIM.glob("check_*.cpp"))
    assert len(models) > 70
    assert {name for name in models if not re.search(rf"\b{name}\b", programs)} == set()
