"""Training steps against each other: every side in its own process, turn by turn, compared round by round.

What slows the machine for a while slows all sides of a round, so ratios are taken within rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

from bench_intervals import median_interval
from training_step import StepSpec

PROGRAM = Path(__file__).with_name("step_child.py")
HOPELESS = 1.25
"""A side this much slower than the best of its group at the start takes no part in the rounds."""


class SideError(RuntimeError):
    """A side could not be built or run."""


@dataclass(frozen=True)
class Side:
    """One way to do a training step. label: unique in a race, shown in the table."""

    label: str
    spec: StepSpec


class Child:
    """The process of one side. kernels: the implementations of the integer kernels that it uses."""

    def __init__(self, side: Side, environment: Mapping[str, str], warm_up: int) -> None:
        self.side = side
        self.kernels: list[str] = []
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, str(PROGRAM), json.dumps(side.spec.data()), str(warm_up)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=environment
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def wait_ready(self) -> None:
        """Return when the side has warmed up. Raises SideError."""
        self.kernels = self._answer()["kernels"]

    def seconds(self, steps: int) -> list[float]:
        """Time ``steps`` steps, each. Raises SideError."""
        return list(self._ask(f"time {steps}")["seconds"])

    def num_bytes(self, what: str) -> int:
        """``peak`` bytes of a step, or the bytes ``saved`` for backward. Raises SideError."""
        return int(self._ask(what)["bytes"])

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(command, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise SideError(self._last_words()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise SideError(answer["failed"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"exit code {code}: {lines[-1] if lines else 'no message'}"


@dataclass(frozen=True)
class Course:
    """How a race is run: its rounds, timed steps per turn, warm-up steps, the processes' environment.

    at_once: start all processes at the same time, which is quicker and no way to choose the best of a group.
    """

    environment: Mapping[str, str]
    rounds: int = 15
    steps: int = 5
    warm_up: int = 3
    at_once: bool = False


@dataclass
class Race:
    """What was measured. seconds: per side the median step of each round; failures, dropped: why a side took no part;
    kernels: implementations by side."""

    groups: Mapping[str, Sequence[Side]]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, list[str]] = field(default_factory=dict)

    def best(self, group: str) -> str | None:
        """The label of the fastest side of a group; None where none ran."""
        ran = [side.label for side in self.groups[group] if side.label in self.seconds]
        return min(ran, key=lambda label: median(self.seconds[label]), default=None)

    def why_not(self, group: str) -> str:
        """Why no side of a group ran."""
        return "; ".join(f"{side.label}: {self.failures.get(side.label, 'not run')}" for side in self.groups[group])

    def speedup(self, group: str, over: str) -> tuple[float, float, float] | None:
        """How many times as fast the best of ``group`` is as the best of ``over``: the median over the rounds and its
        95 % interval; None where one of them did not run."""
        ours, theirs = self.best(group), self.best(over)
        if ours is None or theirs is None:
            return None
        ratios = [b / a for a, b in zip(self.seconds[ours], self.seconds[theirs], strict=True)]
        return median(ratios), *median_interval(ratios)


def run(groups: Mapping[str, Sequence[Side]], course: Course) -> Race:
    """Race all sides; of each group those that stand a chance to be its best."""
    race = Race(groups)
    with ExitStack() as stack:
        line_ups: list[Iterable[Child]] = [_started(sides, course, stack) for sides in groups.values()]
        if course.at_once:
            line_ups = [list(children) for children in line_ups]
        children = [
            child for line_up in line_ups for child in _chosen(race, line_up, max(course.steps, course.warm_up))
        ]
        for number in range(course.rounds):
            # Whoever follows a slow side finds other caches: nobody always follows the same one.
            turn = number % max(len(children), 1)
            for child in [*children[turn:], *children[:turn]]:
                seconds = _attempt(race, child, lambda child: child.seconds(course.steps))
                if seconds:
                    race.seconds.setdefault(child.side.label, []).append(median(seconds))
    for label in race.failures:
        race.seconds.pop(label, None)
    return race


def _started(sides: Sequence[Side], course: Course, stack: ExitStack) -> Iterator[Child]:
    for side in sides:
        yield stack.enter_context(Child(side, course.environment, course.warm_up))


def _chosen(race: Race, children: Iterable[Child], steps: int) -> list[Child]:
    """Start the sides of a group one after another and end those that are hopeless, so that few are in memory."""
    kept: dict[Child, float] = {}
    for child in children:
        seconds = _attempt(race, child, lambda child: _trial(race, child, steps))
        if seconds:
            kept[child] = min(seconds)
        best = min(kept.values(), default=0.0)
        for other in [other for other, seconds in kept.items() if seconds > HOPELESS * best]:
            race.dropped[other.side.label] = f"{kept.pop(other) / best:.2f} x the time of the best"
            other.close()
    return list(kept)


def _trial(race: Race, child: Child, steps: int) -> list[float]:
    child.wait_ready()
    race.kernels[child.side.label] = child.kernels
    return child.seconds(steps)


def _attempt(race: Race, child: Child, action: Callable[[Child], list[float]]) -> list[float] | None:
    """What ``action`` gives; a side that fails is noted and takes no further part: the race goes on without it."""
    if child.side.label in race.failures:
        return None
    try:
        return action(child)
    except SideError as error:
        race.failures[child.side.label] = str(error)
        child.close()
        return None
