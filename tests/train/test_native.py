"""Tapes whose kernels are called in C++ directly."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from own_loop import UNRECORDED, OwnLoop, changed_in_place
from torch_settings import threads

from qbench.kernels import backends, cpu
from qbench.kernels.cpu.calls import noting
from qbench.kernels.encoding import extremes
from qbench.nn.clock import OBSERVE_EVERY
from qbench.train.replay.arena import Span, arranged
from qbench.train.replay.native import NativeKernels, Program

needs_library = pytest.mark.skipif(not cpu.available(), reason="the C++ kernels are not here")


class Counted:
    """How many operators were called through Python."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        for place, function in dict(backends.CHOSEN).items():
            monkeypatch.setitem(backends.CHOSEN, place, self.counting(function))

    def counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self.calls += 1
            return function(*arguments)

        return run

    def during(self, run: Callable[[], object]) -> int:
        before = self.calls
        run()
        return self.calls - before


def program_of(replayed: OwnLoop) -> Program:
    assert replayed.replay is not None and replayed.replay._tape is not None
    program = replayed.replay._tape._program
    assert program is not None
    return program


def same_everywhere(loops: Sequence[OwnLoop]) -> bool:
    """Whether a step of each gives the same."""
    first, second = (loop.run() for loop in loops)
    return len(first) == len(second) and all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> tuple[OwnLoop, OwnLoop, Counted]:
    """One that replays nothing and one whose kernels are native by now."""
    both = [OwnLoop(changed_in_place, "banner8", replays=replays) for replays in (False, True)]
    assert same_everywhere(both)  # so that the kernels are chosen
    counted = Counted(monkeypatch)
    for _ in range(UNRECORDED):
        assert same_everywhere(both)
    return both[0], both[1], counted


@needs_library
def test_native_kernels_are_not_called_through_python(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    plain, replayed, counted = loops
    assert counted.during(plain.run) > 10
    assert counted.during(replayed.run) == 0
    assert same_everywhere((plain, replayed))


@needs_library
def test_threads_may_change(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    plain, replayed, counted = loops
    with threads(2):
        assert same_everywhere((plain, replayed))
        assert counted.during(replayed.run) > 10 and plain.run()
    assert same_everywhere((plain, replayed))
    assert counted.during(replayed.run) == 0


@needs_library
def test_another_kernel_may_be_chosen(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    plain, replayed, counted = loops
    with backends.forced("reference"):
        assert same_everywhere((plain, replayed))
    backends.CHOSEN["none", "cpu"] = print  # one more, which the step does not use
    try:
        assert counted.during(replayed.run) == 0 and plain.run()
    finally:
        del backends.CHOSEN["none", "cpu"]
    assert same_everywhere((plain, replayed))


@needs_library
def test_who_watches_operators_sees_them(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    plain, replayed, _ = loops

    class Names(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    seen: list[str] = []
    with Names():
        replayed.run()
    assert any(name.startswith("qbench.conv2d_scaled") for name in seen)
    plain.run()
    assert same_everywhere((plain, replayed))
    with torch.profiler.profile() as profiler:
        replayed.run()
    assert any("qbench::conv2d_scaled" in event.key for event in profiler.key_averages())


@needs_library
def test_the_arena_is_given_back_and_may_return_elsewhere(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    plain, replayed, _ = loops
    program = program_of(replayed)
    size = program._arena.untyped_storage().nbytes()
    assert size > 0
    begins, blocks = set(), []
    for _ in range(4):
        assert replayed.replay is not None
        replayed.replay.rest()
        assert program._arena.untyped_storage().nbytes() == 0
        blocks.append(torch.empty(size, dtype=torch.uint8))  # takes its place
        assert same_everywhere((plain, replayed))
        begins.add(program._arena.untyped_storage().data_ptr())
    assert len(begins) > 1


@needs_library
@pytest.mark.parametrize("is_noting", [True, False])
def test_a_step_that_is_run_between_has_all_memory(loops: tuple[OwnLoop, OwnLoop, Counted], is_noting: bool) -> None:
    """One that notes its codes, or in which autograd looks for NaN."""
    plain, replayed, _ = loops
    program, sizes = program_of(replayed), []
    if is_noting:
        plain.step = replayed.step = OBSERVE_EVERY
    hook = replayed.model.last.register_forward_pre_hook(
        lambda *_: sizes.append(program._arena.untyped_storage().nbytes())
    )
    with torch.autograd.set_detect_anomaly(not is_noting):
        assert same_everywhere((plain, replayed))
    hook.remove()
    assert sizes == [0]
    before = replayed.replayed
    assert same_everywhere((plain, replayed)) and replayed.replayed == before + 1


@needs_library
def test_gradients_and_losses_are_ones_own(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    """What a step handed out stays as it is in the next one."""
    _, replayed, _ = loops
    assert replayed.replay is not None
    images, labels = replayed.batch()
    loss = replayed.replay.forward(images, labels)
    assert replayed.replay.gradients is not None
    held = [loss, *(gradient for _, gradient in replayed.replay.gradients)]
    before = [x.clone() for x in held]
    replayed.run()
    assert all(torch.equal(x, y) for x, y in zip(held, before, strict=True))


@needs_library
def test_an_error_of_a_native_kernel_is_raised(loops: tuple[OwnLoop, OwnLoop, Counted]) -> None:
    plain, replayed, _ = loops
    program = program_of(replayed)
    parts = [part for stretch in program._stretches for part in stretch.parts if isinstance(part, NativeKernels)]
    call = next(call for part in parts for call in part.calls if call.check is not None)
    level, call.arguments[0] = call.arguments[0], 99
    with pytest.raises(RuntimeError, match="this machine cannot run the level"):
        replayed.run()
    call.arguments[0] = level
    plain.run()
    replayed.step = plain.step
    replayed.generator.set_state(plain.generator.get_state())
    assert same_everywhere((plain, replayed))


@needs_library
def test_calls_of_another_thread_are_not_noted() -> None:
    x = torch.arange(5.0)
    with noting() as calls:
        other = threading.Thread(target=extremes, args=(x,))
        other.start()
        other.join()
        assert not calls
        extremes(x)
    extremes(x)
    assert len(calls) == 1


def test_tensors_of_the_arena_that_live_at_the_same_time_share_no_byte() -> None:
    rng = random.Random(0)
    for _ in range(50):
        spans = {}
        for name in range(rng.randint(0, 60)):
            start = rng.randrange(100)
            spans[name] = Span(start, start + rng.choice((0, 1, 5, 50)), rng.choice((0, 1, 64, 4096, 10**6)))
        offsets, size = arranged(spans)
        assert offsets.keys() == spans.keys()
        for name, span in spans.items():
            assert offsets[name] % 64 == 0 and offsets[name] + span.num_bytes <= size
            for other, its in spans.items():
                if other != name and its.start <= span.end and span.start <= its.end:
                    a, b = (offsets[name], span.num_bytes), (offsets[other], its.num_bytes)
                    assert a[0] + a[1] <= b[0] or b[0] + b[1] <= a[0]
        moments = [sum(s.num_bytes for s in spans.values() if s.start <= t <= s.end) for t in range(160)]
        assert size <= 1.5 * max(moments) + 512 * len(spans)
