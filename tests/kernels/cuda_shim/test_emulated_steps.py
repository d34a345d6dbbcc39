"""Whole training steps on the emulated CUDA kernels: the same integers as on this machine's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from emulated_driver import EmulatedDriver
from kernel_matrix import serving
from recorded_steps import CONFIGURATIONS, recorded
from shim_cases import Emulated


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), CONFIGURATIONS, ids=str)
def test_trains_the_same(method: str, options: dict[str, object], build_folder: Path) -> None:
    wanted = recorded(method, options)
    with serving(Emulated(driver=EmulatedDriver(build_folder))):
        assert recorded(method, options) == wanted
