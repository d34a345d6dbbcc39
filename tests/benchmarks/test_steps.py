"""Whole training steps in integer arithmetic against the float baselines: time, peak memory, bytes kept for backward.

A step is forward pass, loss, backward pass, ranges and update, on the same random images and with the same optimiser
for every side. The best of eager and compiled baselines counts, in either memory format.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest
from bench_table import Row, Target, is_tiny
from step_plan import (
    GRAHAM_BITS,
    LIMITS,
    METHODS,
    PEAK_BYTES,
    PLAIN,
    RESNET18,
    RESNET20,
    SAVED_BYTES,
    TINY,
    TINY_PLAIN,
    WITHOUT_AMX,
    Limit,
    Shape,
    baseline_sides,
    method_side,
    why_not,
)
from step_race import Child, Course, Race, Side, SideError, run
from training_step import steady_environment

pytestmark = [pytest.mark.benchmark_suite, pytest.mark.timeout(7200)]

SPEED, LIMITED, MEMORY = "speed", "speed without AMX", "memory"
PROFILE = Path(__file__).with_name("profile_step.py")
Report = Callable[..., None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    tiny = is_tiny(metafunc.config)
    if "shape" in metafunc.fixturenames:
        shapes = (TINY,) if tiny else (RESNET20, RESNET18)
        metafunc.parametrize("shape", shapes, ids=lambda shape: shape.spec.model)
    if "limit" in metafunc.fixturenames:
        limits = LIMITS[-1:] if tiny else LIMITS
        metafunc.parametrize("limit", limits, ids=lambda limit: limit.level)


@pytest.fixture
def tiny(pytestconfig: pytest.Config) -> bool:
    """Whether this only shows that everything runs."""
    return is_tiny(pytestconfig)


@pytest.fixture
def any_cpu(pytestconfig: pytest.Config, tiny: bool) -> bool:
    """Whether to measure also what this CPU is not held to."""
    return tiny or bool(pytestconfig.getoption("--any-cpu", default=False))


@pytest.fixture
def course(pytestconfig: pytest.Config, num_threads: int, tiny: bool) -> Course:
    """How long to measure."""
    if tiny:  # one thread each: threads of many processes at once wait for each other
        return Course(steady_environment(1), rounds=1, steps=1, warm_up=1, at_once=True)
    return Course(steady_environment(num_threads), rounds=int(pytestconfig.getoption("--bench-rounds", default=15)))


@pytest.fixture
def random_bits(pytestconfig: pytest.Config) -> str:
    """The generator of stochastic rounding."""
    return str(pytestconfig.getoption("--random-bits", default="philox"))


def test_steps(shape: Shape, report: Report, course: Course, random_bits: str, any_cpu: bool, tiny: bool) -> None:
    """banner8 and wageubn against bf16 and fp32 on a CPU with AMX."""
    missing = why_not("amx")
    if missing and not any_cpu:
        report(*(_blank(SPEED, shape, pair, target, missing) for pair, target in shape.targets.items()))
        return
    groups = {method: [method_side(shape, method, random_bits)] for method in METHODS}
    groups |= {method: baseline_sides(shape, method) for method in ("bf16", "fp32")}
    race = run(groups, _paced(course, shape))
    report(*(_row(SPEED, race, shape, pair, target, missing, tiny) for pair, target in shape.targets.items()))
    assert not (tiny and race.failures), race.failures


def test_steps_without_amx(
    shape: Shape, limit: Limit, report: Report, course: Course, random_bits: str, tiny: bool
) -> None:
    """banner8 and wageubn against fp32, all limited to an older instruction set."""
    pairs, title = [(method, "fp32") for method in METHODS], f"{LIMITED}: {limit.level}"
    missing = why_not(limit.level)
    if missing:
        report(*(_blank(title, shape, pair, WITHOUT_AMX, missing) for pair in pairs))
        return
    environment = {**course.environment, **limit.environment()}
    groups = {method: [method_side(shape, method, random_bits)] for method in METHODS}
    groups["fp32"] = baseline_sides(shape, "fp32")[: 1 if tiny else None]
    race = run(groups, _paced(course, shape, environment))
    report(*(_row(title, race, shape, pair, WITHOUT_AMX, "", tiny) for pair in pairs))
    assert not (tiny and race.failures), race.failures


def test_peak_bytes(report: Report, course: Course, random_bits: str, tiny: bool) -> None:
    """Live tensor bytes of a banner8 step of ResNet-18 against the eager baselines."""
    shape = TINY if tiny else RESNET18
    sides = [method_side(shape, method, random_bits) for method in ("banner8", "bf16", "fp32")]
    counted = _count(sides, "peak", course)
    pairs = {("banner8", baseline): target for baseline, target in PEAK_BYTES.items()}
    report(*(_bytes_row(shape, "peak bytes", pair, target, counted, tiny) for pair, target in pairs.items()))


def test_saved_bytes(report: Report, course: Course, random_bits: str, tiny: bool) -> None:
    """Bytes that graham keeps for backward, without shortcuts and with them."""
    for shape in (TINY_PLAIN, TINY) if tiny else (PLAIN, RESNET20, RESNET18):
        sides = [method_side(shape, "graham", random_bits, bits=GRAHAM_BITS), method_side(shape, "fp32", random_bits)]
        counted = _count(sides, "saved", course)
        report(_bytes_row(shape, "bytes saved for backward", ("graham", "fp32"), SAVED_BYTES, counted, tiny))


def _paced(course: Course, shape: Shape, environment: dict[str, str] | None = None) -> Course:
    return Course(environment or course.environment, course.rounds, shape.steps, course.warm_up, course.at_once)


def _subject(shape: Shape, method: str) -> str:
    return f"{shape.title}, {method}"


def _blank(section: str, shape: Shape, pair: tuple[str, str], target: Target, missing: str) -> Row:
    method, baseline = pair
    reason = f"not measurable here: {missing}"
    return Row(section, _subject(shape, method), f"best of {baseline}", target, reason=reason, is_held=False)


def _row(
    section: str, race: Race, shape: Shape, pair: tuple[str, str], target: Target, missing: str, tiny: bool
) -> Row:
    """The speed of a method as a multiple of the best baseline's."""
    method, baseline = pair
    speedup = race.speedup(method, baseline)
    if speedup is None:
        reason = f"failed: {race.why_not(method if race.best(method) is None else baseline)}"
        return Row(section, _subject(shape, method), f"best of {baseline}", target, reason=reason)
    reason = "tiny sizes" if tiny else missing
    return Row(
        section, _subject(shape, method), f"best of {baseline}", target, speedup[0], speedup[1:], reason,
        is_held=not reason, detail=_times(race, method, baseline),
    )  # fmt: skip


def _times(race: Race, method: str, baseline: str) -> str:
    """Milliseconds of both, the implementation of the kernels, and what became of the other baselines."""
    ours, theirs = race.best(method), race.best(baseline)
    assert ours is not None
    assert theirs is not None
    parts = [f"{label} {1000 * median(race.seconds[label]):.1f} ms" for label in (ours, theirs)]
    parts[0] += f" ({', '.join(race.kernels[ours])})"
    for side in race.groups[baseline]:
        if side.label in race.failures:
            parts.append(f"{side.label} failed: {race.failures[side.label]}")
        elif side.label in race.dropped:
            parts.append(f"{side.label} {race.dropped[side.label]}")
        elif side.label != theirs:
            parts.append(f"{side.label} {1000 * median(race.seconds[side.label]):.1f} ms")
    return "; ".join(parts)


def _count(sides: list[Side], what: str, course: Course) -> dict[str, int | str]:
    """Bytes by side, or why there are none."""
    counted: dict[str, int | str] = {}
    with ExitStack() as stack:  # nothing is timed, so all may run at once
        for child in [stack.enter_context(Child(side, course.environment, warm_up=1)) for side in sides]:
            try:
                child.wait_ready()
                counted[child.side.label] = child.num_bytes(what)
            except SideError as error:
                counted[child.side.label] = f"failed: {child.side.label}: {error}"
    return counted


def _bytes_row(
    shape: Shape, what: str, pair: tuple[str, str], target: Target, counted: dict[str, int | str], tiny: bool
) -> Row:
    ours, theirs = (counted[method] for method in pair)
    subject = f"{_subject(shape, pair[0])}: {what}"
    if isinstance(ours, str) or isinstance(theirs, str):
        return Row(
            MEMORY, subject, pair[1], target, reason="; ".join(text for text in (ours, theirs) if isinstance(text, str))
        )
    detail = "; ".join(f"{method} {count / 2**20:.2f} MiB" for method, count in zip(pair, (ours, theirs), strict=True))
    reason = "tiny sizes" if tiny else ""
    return Row(MEMORY, subject, pair[1], target, ours / theirs, None, reason, is_held=not tiny, detail=detail)


def test_profile_shows_every_group(tiny: bool) -> None:
    if not tiny:
        pytest.skip("a command of its own: make profile")
    command = [sys.executable, str(PROFILE), "tiny", "banner8", "--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=steady_environment(1), check=True)
    shown = {line[:38].strip() for line in done.stdout.splitlines()}
    products = {"products, forward", "products, input gradient", "products, weight gradient", "products, linear layers"}
    assert shown >= products | {"encode", "ranges and statistics", "update", "rest: PyTorch, Python"}
