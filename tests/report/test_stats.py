from __future__ import annotations

import math

import pytest

from qbench.stats import PairedDifference, paired_difference, summarize, t_half_width


def test_sample_standard_deviation() -> None:
    summary = summarize([2.0, 4.0, 9.0])
    assert summary.n == 3
    assert summary.mean == 5.0
    assert summary.sd == pytest.approx(math.sqrt(13.0))  # (9 + 1 + 16) / (3 - 1)


def test_one_value_has_no_spread_and_no_interval() -> None:
    summary = summarize([2.0])
    assert (summary.sd, summary.half_width()) == (None, None)
    assert paired_difference({0: 3.0}, {0: 2.0}) == PairedDifference(1, 1.0, None, None)


# Half-widths in units of the standard deviation: t(0.975, n - 1) / sqrt(n), from printed tables of t.
@pytest.mark.parametrize(("n", "t"), [(2, 12.706), (3, 4.303), (5, 2.776), (8, 2.365), (10, 2.262), (20, 2.093)])
def test_half_width_against_printed_tables(n: int, t: float) -> None:
    # The tables print three decimals.
    assert t_half_width(n, 1.0) == pytest.approx(t / math.sqrt(n), abs=5e-4)


def test_another_confidence() -> None:
    assert t_half_width(4, 2.0, confidence=0.9) == pytest.approx(2.353, abs=1e-3)


def test_only_seeds_of_both_are_paired() -> None:
    difference = paired_difference({0: 10.0, 1: 12.0, 7: 99.0}, {1: 11.0, 0: 8.0, 5: -1.0})
    assert difference is not None
    assert (difference.n, difference.mean) == (2, 1.5)
    assert difference.sd == pytest.approx(math.sqrt(0.5))


def test_pairing_removes_what_seeds_share() -> None:
    easy_and_hard = {0: 90.0, 1: 50.0, 2: 70.0}
    difference = paired_difference({seed: value + 1 for seed, value in easy_and_hard.items()}, easy_and_hard)
    assert difference is not None
    assert (difference.mean, difference.sd, difference.half_width) == (1.0, 0.0, 0.0)


def test_no_shared_seed_gives_no_difference() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
