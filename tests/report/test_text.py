from __future__ import annotations

import pytest

from qbench.report import text
from qbench.report.metrics import DIFFERENCE, ENERGY, TOP1, TRAIN_SPEED


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (311_000, "304 KiB"),
        (2**20 - 1, "1.00 MiB"),
        (2**20, "1.00 MiB"),
        (10 * 2**10 - 1, "10.0 KiB"),
        (3.5 * 2**30, "3.50 GiB"),
        (2**50 - 1, "1024 TiB"),
    ],
)
def test_memory(value: float, written: str) -> None:
    assert text.memory(value) == written


@pytest.mark.parametrize(
    ("value", "written"), [(-0.3149, "\N{MINUS SIGN}0.31"), (0.3149, "+0.31"), (-0.001, "0.00"), (0.0, "0.00")]
)
def test_signed(value: float, written: str) -> None:
    assert text.signed(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(1234.5, "1,234"), (99.96, "100"), (99.94, "99.9"), (9.996, "10.0"), (5.126, "5.13"), (0.0123, "0.0123")],
)
def test_speed(value: float, written: str) -> None:
    assert text.speed(value) == written


@pytest.mark.parametrize(("value", "written"), [(0.954, "0.95"), (12.0, "12.00"), (0.0996, "0.10"), (0.0123, "0.012")])
def test_ratio(value: float, written: str) -> None:
    assert text.ratio(value) == written


def test_the_spread_has_the_decimals_of_its_value() -> None:
    assert TOP1.written(98.523, 0.2149) == "98.52 ± 0.21"
    assert DIFFERENCE.written(0.3, 0.25) == "+0.30 ± 0.25"
    assert TRAIN_SPEED.written(1234.4, 33.33) == "1,234 ± 33"
    assert TRAIN_SPEED.written(12.34, 0.512) == "12.3 ± 0.5"
    assert TOP1.written(98.523, None) == "98.52"


def test_the_spread_of_a_tiny_value_is_a_tiny_number_too() -> None:
    assert ENERGY.written(3e-7, 1.5e-7) == "3.00e-07 \N{PLUS-MINUS SIGN} 1.5e-07"
