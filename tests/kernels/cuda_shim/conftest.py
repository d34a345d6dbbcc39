from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from qbench.kernels.cuda import launch

# The cases of the exactness test are one folder up; the driver is shared by the test files of this one.
sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]


@pytest.fixture(scope="session")
def build_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where emulated kernels are kept from one run of the tests to the next, named by what they were made from."""
    if shutil.which("g++") is None:
        pytest.skip("the emulated kernels need g++")
    cache = getattr(request.config, "cache", None)
    return cache.mkdir("cuda-emulation") if cache is not None else tmp_path_factory.mktemp("cuda-emulation")


@pytest.fixture(autouse=True)
def _loops_take_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tensors that emulation has the time for."""
    monkeypatch.setattr(launch, "LOOP_BLOCKS", 2)


@pytest.fixture(autouse=True)
def _uninitialised_memory_is_garbage() -> Iterator[None]:
    """torch.empty fills with NaN and largest integers, so that what a kernel fails to write shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
