"""What is on a tape, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.train.replay.recorder import Recorder, UnrepeatableError
from qbench.train.replay.tape import Tape


def recorded(step: int, function: Callable[[Tensor, Tensor], Tensor], images: Tensor) -> Recorder:
    labels = torch.zeros(2)
    with Recorder(step, images, labels) as recorder:
        loss = function(images, labels)
    recorder.yield_loss(loss)
    return recorder


def tape_of(function: Callable[[Tensor, Tensor], Tensor]) -> Tape:
    return Tape(*(recorded(step, function, torch.randn(2, 3)) for step in (1, 2)))


def test_a_tape_runs_what_is_needed_and_no_more() -> None:
    def function(x: Tensor, _: Tensor) -> Tensor:
        x.expand(4, 2, 3)  # of no use to anybody
        y = x.detach().view(3, 2).view(2, 3)  # which is x again
        return (y * 2).sum()

    tape, images = tape_of(function), torch.randn(2, 3)
    (parameter, loss), *others = list(tape.play(3, images, torch.zeros(2)))
    assert (parameter, others) == (None, []) and torch.equal(loss, (images * 2).sum())
    assert functions_of(tape) == ["aten.view.default", "aten.view.default", "aten.mul.Tensor", "aten.sum.default"]


def test_a_tape_keeps_effects_and_their_order() -> None:
    total = torch.zeros(3)

    def function(x: Tensor, _: Tensor) -> Tensor:
        first = total.clone()
        total.add_(x[0])
        total.view(3)[1:].mul_(0.5)
        return (first * 10 + total).sum()

    tape = tape_of(function)
    total.zero_()
    expected = torch.zeros(3)
    for _ in range(3):
        images = torch.randn(2, 3)
        ((_, loss),) = list(tape.play(3, images, torch.zeros(2)))
        first = expected.clone()
        expected += images[0]
        expected[1:] *= 0.5
        assert torch.equal(loss, (first * 10 + expected).sum()) and torch.equal(total, expected)


def test_a_tape_lets_go_of_tensors_as_soon_as_nobody_reads_them() -> None:
    import weakref

    storages: list[weakref.ref[Any]] = []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            alive.append(sum(ref() is not None for ref in storages))
            result = func(*args, **(kwargs or {}))
            storages.append(weakref.ref(result.untyped_storage()))
            return result

    alive: list[int] = []
    tape = tape_of(lambda x, _: x.exp().exp().exp().exp().sum())
    batch = torch.randn(2, 3), torch.zeros(2)
    with Watched():
        list(tape.play(3, *batch))
    assert alive == [0, 1, 1, 1, 1]


def functions_of(tape: Tape) -> list[str]:
    return [str(i.function) for stretch in tape._stretches for i in stretch.parts]


def twice(x: Tensor, _: Tensor) -> Tensor:
    z = x.exp()
    return z + z


def two_views(x: Tensor, _: Tensor) -> Tensor:
    z = x.exp()
    return z[:, :2] + z[:, 1:]


def read_again(x: Tensor, _: Tensor) -> Tensor:
    z = x.exp()
    return (z + x) * z


def read_as_a_view(x: Tensor, _: Tensor) -> Tensor:
    z = x.exp()
    return (z + x) * z.view(6).view(2, 3)


def read_in_part(x: Tensor, _: Tensor) -> Tensor:
    z = x.exp()
    part = z[0]
    return (z + x) * part


def of_the_batch(x: Tensor, y: Tensor) -> Tensor:
    return x.view(6).view(2, 3) + CONSTANT.exp()[:1]


def of_a_constant(x: Tensor, _: Tensor) -> Tensor:
    CONSTANT.mul_(1)
    return CONSTANT + x


def of_a_view_of_a_constant(x: Tensor, _: Tensor) -> Tensor:
    return CONSTANT.view(6).view(2, 3) + x


CONSTANT = torch.ones(2, 3)
IN_PLACE = [
    (lambda x, y: x.exp() + x.sin(), 1),
    (lambda x, y: (x.exp() + x.sin()) + (x.cos() + x), 3),
    (lambda x, y: x + CONSTANT, 0),  # neither is the step's own
    (lambda x, y: x + x.exp(), 1),  # the second term is
    (lambda x, y: x.exp() + CONSTANT[:1], 1),
    (lambda x, y: x.exp()[:1] + x.exp(), 1),  # only the second lies as the sum does
    (lambda x, y: x.t().exp().t() + CONSTANT, 1),
    (lambda x, y: x.exp() + 1, 1),
    (lambda x, y: torch.add(x.exp(), x.sin(), alpha=2), 0),  # not the same with the terms exchanged
    (lambda x, y: x.exp() + torch.ones(2, 3, dtype=torch.float64), 1),
    (twice, 0),
    (two_views, 0),
    (read_again, 0),
    (read_as_a_view, 0),
    (read_in_part, 0),
    (of_the_batch, 0),
    (of_a_constant, 0),
    (of_a_view_of_a_constant, 0),
]


@pytest.mark.parametrize(("function", "count"), IN_PLACE)
def test_sums_take_the_memory_of_a_term_that_nobody_reads_again(
    function: Callable[[Tensor, Tensor], Tensor], count: int
) -> None:
    tape, images, labels = tape_of(lambda x, y: function(x, y).sum()), torch.randn(2, 3), torch.zeros(2)
    before = images.clone()
    ((_, loss),) = list(tape.play(3, images, labels))
    assert torch.equal(images, before) and torch.equal(CONSTANT, torch.ones(2, 3))
    assert torch.equal(loss, function(images, labels).sum())
    assert sum("add_" in name for name in functions_of(tape)) == count


def test_what_was_handed_out_is_not_written_over() -> None:
    labels = torch.zeros(2)
    recorders = []
    for step in (1, 2):
        images = torch.randn(2, 3)
        with Recorder(step, images, labels) as recorder:
            loss = images.exp()
            recorder.yield_loss(loss)
            recorder.yield_loss(loss + images)
        recorders.append(recorder)
    images = torch.randn(2, 3)
    (_, first), (_, second) = list(Tape(*recorders).play(3, images, labels))
    assert torch.equal(first, images.exp()) and torch.equal(second, images.exp() + images)


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((lambda x, y: x.exp().sum(), lambda x, y: x.sin().sum()), "one step runs aten.exp.default where the next one"),
        ((lambda x, y: x.sum(), lambda x, y: x.exp().sum()), "one step runs aten.sum.default where the next one runs"),
        ((lambda x, y: (x * 2).sum(), lambda x, y: (x * 3).sum()), "an operand of aten.mul.Tensor changes"),
        ((lambda x, y: (x * 2).sum(), lambda x, y: (x * 2.0).sum()), "an operand of aten.mul.Tensor changes"),
        ((lambda x, y: x, lambda x, y: x), ""),
        ((lambda x, y: torch.equal(x, y) or x.sum(),) * 2, "tells Python what is in a tensor"),
    ],
)
def test_steps_that_differ_make_no_tape(
    functions: tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]], message: str
) -> None:
    first, second = (recorded(step, f, torch.randn(2, 3)) for step, f in enumerate(functions, start=1))
    if not message:
        Tape(first, second)
        return
    with pytest.raises(UnrepeatableError, match=message):
        Tape(first, second)
