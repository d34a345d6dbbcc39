"""Tests that hold in both arithmetics."""

from typing import get_args

import pytest

from qbench.recipe import Arithmetic

ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)

both_arithmetics = pytest.mark.parametrize("arithmetic", ARITHMETICS)
