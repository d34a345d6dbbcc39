"""What a step changes within objects keeps it from being replayed."""

from __future__ import annotations

import itertools
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from own_loop import UNRECORDED, Net, OwnLoop
from torch import Tensor

from qbench.train.replay.contents import contents
from qbench.train.replay.steps import MAX_FAILURES

STEPS = 2 * MAX_FAILURES + 3
LATE = 6
"""A step behind those that would be recorded."""

Counter = Callable[[], int]
"""How often it was called."""


def appended(to: list[int] | deque[int]) -> int:
    to.append(len(to))
    return len(to)


def increased(holder: SimpleNamespace) -> int:
    holder.count += 1
    return int(holder.count)


def by_closure() -> Counter:
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return count

    return counted


def by_default() -> Counter:
    def counted(seen: list[int] = []) -> int:  # noqa: B006 - that is what is tried
        return appended(seen)

    return counted


def by_generator() -> Counter:
    def numbers() -> Iterator[int]:
        yield from range(1, 100)

    iterator = numbers()
    return lambda: next(iterator)


in_file = 0


def by_global() -> Counter:
    global in_file  # noqa: PLW0603 - that is what is tried
    in_file = 0

    def counted() -> int:
        global in_file  # noqa: PLW0603
        in_file += 1
        return in_file

    return counted


class CountingNet(Net):
    """Doubles activations from the step LATE on. count: of forward passes."""

    of_all = 0

    def __init__(self, count: Counter | None) -> None:
        CountingNet.of_all = 0
        super().__init__(CountingNet.doubled)
        self.count = count

    def doubled(self, y: Tensor) -> Tensor:
        if self.count is None:
            CountingNet.of_all += 1
        passes = CountingNet.of_all if self.count is None else self.count()
        return y if passes < LATE else y * 2


COUNTERS: list[Callable[[], Counter | None]] = [
    lambda: partial(appended, []),
    lambda: partial(appended, deque()),
    lambda: partial(increased, SimpleNamespace(count=0)),
    by_closure,
    by_default,
    by_generator,
    lambda: partial(next, itertools.count(1)),
    by_global,
    lambda: None,  # in a variable of the class
]


@pytest.mark.parametrize("counter", COUNTERS)
def test_what_counts_anywhere_is_not_replayed(counter: Callable[[], Counter | None]) -> None:
    results = []
    for replays in (False, True):
        torch.manual_seed(0)
        loop = OwnLoop(CountingNet(counter()), "banner8", replays=replays)
        results.append([loop.run() for _ in range(STEPS)])
    assert "a step changes what " in loop.refusal and loop.replayed == 0
    for a, b in zip(*results, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("generator", [random.Random(0), np.random.default_rng(0), np.random.RandomState(0)])
def test_a_generator_of_ones_own_is_not_replayed(generator: random.Random | np.random.Generator) -> None:
    net = CountingNet(lambda: int(generator.random() < 1e-9))
    loop = OwnLoop(net, "fp32", replays=True)
    for _ in range(STEPS):
        loop.run()
    assert (loop.refusal, loop.replayed) == ("a step changes what count holds", 0)


def test_objects_that_stay_as_they_are_change_nothing() -> None:
    loop = OwnLoop(CountingNet(lambda: 0), "banner8", replays=True)
    loop.model.held = [
        torch.compiler.disable(appended),
        threading.Lock(),
        torch.Generator(),
        {"table": np.arange(9)},
        {3, 4},
        OwnLoop,
        appended,
    ]
    for _ in range(STEPS):
        loop.run()
    assert loop.replayed == STEPS - UNRECORDED


def test_a_setting_deep_within_may_change_between_steps() -> None:
    results = []
    for replays in (False, True):
        torch.manual_seed(0)
        loop = OwnLoop(CountingNet(partial(sum, [0])), "banner8", replays=replays)
        before = [loop.run() for _ in range(5)]
        loop.model.count.args[0][0] = LATE
        results.append(before + [loop.run() for _ in range(4)])
        assert loop.replayed == (2 + 2 if replays else 0)
    for a, b in zip(*results, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_contents_follow_what_is_deep_within() -> None:
    inner = {"weights": np.zeros(3)}
    outer = [(inner, {1, 2}), SimpleNamespace(inner=inner)]
    before = contents(outer)
    assert contents(outer) == before
    inner["weights"][1] = 1e-30
    changed = contents(outer)
    assert changed != before
    outer[0][1].add(3)
    assert contents(outer) not in (before, changed)


def test_a_file_is_never_the_same() -> None:
    with open(__file__, encoding="utf-8") as file:
        assert contents([file]) != contents([file])


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize("compiled", [torch.compile, torch.jit.script])
def test_a_compiled_function_is_found_before_anything_is_recorded(compiled: Callable[[object], object]) -> None:
    """It would run other operators than it does else."""
    function = compiled(torch.nn.functional.gelu if compiled is torch.compile else half)
    loop = OwnLoop(CountingNet(lambda: 0), "fp32", replays=True)
    loop.model.change = lambda net, y: function(y)
    assert loop.replay is not None
    loop.replay._forward = lambda images, labels: images.sum()  # to compile takes long
    loop.converted.clock.step = 1
    images, labels = loop.batch()
    assert loop.replay.forward(images, labels) == images.sum()
    assert (loop.refusal, loop.replay.is_recording) == ("a function is compiled", False)


def half(x: Tensor) -> Tensor:
    return x * 0.5
