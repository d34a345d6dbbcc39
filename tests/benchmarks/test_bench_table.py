"""The table of the benchmarks: verdicts, text, JSON; and how sides are raced. No speed is measured here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_intervals import median_interval
from bench_table import BenchTable, Row, Target, require
from step_plan import LIMITS, RESNET20, baseline_sides
from step_race import Race, Side

FLOOR = Target(1.4, 2.0)
CEILING = Target(0.55, 0.4, is_ceiling=True)


def row(target: Target, ratio: float | None, interval: tuple[float, float] | None = None, **more: object) -> Row:
    return Row("speed", "step", "bf16", target, ratio, interval, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "ratio", "interval", "verdict", "is_missed"),
    [
        (FLOOR, 2.1, (1.9, 2.2), "aim reached", False),
        (FLOOR, 1.5, (1.3, 1.6), "reached", False),
        (FLOOR, 1.3, (1.2, 1.45), "not reached, within the interval", False),
        (FLOOR, 1.3, (1.2, 1.39), "MISSED", True),
        (CEILING, 0.39, None, "aim reached", False),
        (CEILING, 0.5, None, "reached", False),
        (CEILING, 0.56, None, "MISSED", True),
    ],
)
def test_verdicts(
    target: Target, ratio: float, interval: tuple[float, float] | None, verdict: str, is_missed: bool
) -> None:
    made = row(target, ratio, interval)
    assert (made.verdict, made.is_missed) == (verdict, is_missed)


def test_what_is_not_measured_or_not_held_to_misses_nothing() -> None:
    blank = row(FLOOR, None, reason="not measurable here: no AMX", is_held=False)
    loose = row(FLOOR, 0.1, (0.1, 0.1), reason="tiny sizes", is_held=False)
    assert blank.cells() == ("step", "bf16", "-", ">= 1.4x", ">= 2x", "not measurable here: no AMX")
    assert loose.verdict == "not held to it: tiny sizes"
    require([blank, loose])


def test_missed_bounds_and_failures_are_required() -> None:
    require([row(FLOOR, 1.5)])
    with pytest.raises(AssertionError, match=r"step against bf16: MISSED, 1\.2x"):
        require([row(FLOOR, 1.5), row(FLOOR, 1.2)])
    with pytest.raises(AssertionError, match="failed: no compiler"):
        require([row(FLOOR, None, reason="failed: no compiler")])


def test_table_as_text_and_json(tmp_path: Path) -> None:
    table = BenchTable([row(FLOOR, 1.5, (1.25, 1.75), detail="banner8 [1] 60.0 ms"), row(CEILING, 0.39)])
    text = table.render(150)
    assert "1.5x (1.25 to 1.75)" in text
    assert "step against bf16: banner8 [1] 60.0 ms" in text
    path = table.save(tmp_path / "bench", {"cpu": {"model": "Some(R) CPU @ 2.60GHz"}}, "avx2")
    assert path.name == "some-r-cpu-2-60ghz-avx2.json"
    saved = json.loads(path.read_text())
    assert saved["machine"] == {"cpu": {"model": "Some(R) CPU @ 2.60GHz"}}
    assert [entry["verdict"] for entry in saved["rows"]] == ["reached", "aim reached"]


def test_interval_of_the_median_leaves_out_what_a_sign_test_rejects() -> None:
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    # P(at most 3 of 15 below the median) = 0.018, of 4 it is 0.059: the fourth value from either end stays.
    assert median_interval(range(15)) == (3, 11)


def test_best_of_a_group_and_paired_speedup() -> None:
    groups = {
        name: [Side(f"{name} {how}", RESNET20.spec) for how in ("eager", "compiled")] for name in ("ours", "theirs")
    }
    race = Race(groups, seconds={"ours eager": [1, 2, 4], "theirs eager": [9, 9, 9], "theirs compiled": [2, 6, 4]})
    assert race.best("theirs") == "theirs compiled"
    assert race.speedup("ours", over="theirs") == (2.0, 1.0, 3.0)
    empty = Race(groups, failures={"ours eager": "no memory", "ours compiled": "no compiler"})
    assert empty.speedup("ours", over="theirs") is None
    assert empty.why_not("ours") == "ours eager: no memory; ours compiled: no compiler"


def test_baselines_are_tried_eager_and_compiled_in_both_layouts() -> None:
    assert [side.label for side in baseline_sides(RESNET20, "bf16")] == [
        "bf16 replayed channels-last",
        "bf16 replayed channels-first",
        "bf16 compiled channels-last",
        "bf16 compiled channels-first",
    ]


def test_limits_hold_for_every_library() -> None:
    assert {limit.level: limit.environment() for limit in LIMITS}["avx2"] == {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "QBENCH_ISA": "avx2",
    }
