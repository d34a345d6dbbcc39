from __future__ import annotations

import math
import random

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
    assert (difference.mean, difference.sd) == (1.0, 0.0)


def test_equal_differences_give_no_interval() -> None:
    # 397, 396 and 399, 398 of 400 items: 99.25 - 99.0 and 99.75 - 99.5, and thirds of a percent with rounding errors.
    assert paired_difference({0: 99.25, 1: 99.75}, {0: 99.0, 1: 99.5}) == PairedDifference(2, 0.25, 0.0, None)
    thirds = paired_difference({0: 100 * 299 / 300, 1: 100 * 296 / 300}, {0: 100 * 298 / 300, 1: 100 * 295 / 300})
    assert thirds is not None
    assert thirds.half_width is None
    assert summarize([99.0, 99.0, 99.0]).half_width() is None


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize("sd_items", [0.5, 1.0, 2.0, 5.0])
def test_the_interval_of_equal_methods_contains_zero(num_seeds: int, sd_items: float) -> None:
    draws = random.Random(num_seeds)
    repeats, missed = 1000, 0
    for _ in range(repeats):
        a, b = ({seed: 100 * round(draws.gauss(970, sd_items)) / 1000 for seed in range(num_seeds)} for _ in range(2))
        difference = paired_difference(a, b)
        assert difference is not None
        missed += difference.half_width is not None and abs(difference.mean) > difference.half_width
    # 5 % of the time it may not; four standard errors more for the number of repeats.
    assert missed / repeats < 0.05 + 4 * math.sqrt(0.05 * 0.95 / repeats)


def test_no_shared_seed_gives_no_difference() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
