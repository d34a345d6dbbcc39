"""Every method on a GPU that is pretended: device mixes and waits show without one, and results are the CPU's.

What only a GPU can show, its own kernels, streams and memory, does not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qbench.catalog import methods
from qbench.train.rehearsal import OWN

HERE = Path(__file__).parent
METHODS = [entry.name for entry in methods() if entry.origin.startswith(OWN)]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("the pretended GPU needs Linux and g++")
    if torch.version.cuda is not None:
        pytest.skip("this PyTorch knows real GPUs")
    root, target = Path(torch.__file__).parent, tmp_path_factory.mktemp("device") / "device.so"
    headers = [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    linked = [f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root / 'lib'}"]
    command = ["g++", "-std=c++20", "-O0", "-w", "-shared", "-fPIC", str(HERE / "device.cpp"), *headers, *linked]
    result = subprocess.run([*command, "-o", str(target)], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[:4000]
    return target


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_trains_evaluates_and_travels_as_on_the_cpu(method: str, library: Path) -> None:
    command = [sys.executable, str(HERE / "pretended.py"), str(library), method]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    assert json.loads(result.stdout.splitlines()[-1]) == {}
