"""Where a step does more than its operators show, or something changes between steps, no tape stands for it."""

from __future__ import annotations

import random
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from own_loop import UNRECORDED, Net, OwnLoop, changed_in_place, joined
from torch import Tensor, nn

from qbench import Recipe
from qbench.recipe import BatchRenorm
from qbench.train.replay import steps as replay_module

STEPS = 7


def branching(net: Net, y: Tensor) -> Tensor:
    return y * 2.0 if y.sum() > 0 else y


def counting(net: Net, y: Tensor) -> Tensor:
    net.passes += 1
    return y


def remembering(net: Net, y: Tensor) -> Tensor:
    net.last_seen = y.detach()
    return y


def drawing(net: Net, y: Tensor) -> Tensor:
    return y * (1 + random.random())


def drawing_rarely(net: Net, y: Tensor) -> Tensor:
    return y * 2.0 if random.random() < 1e-9 else y


def drawing_with_numpy(net: Net, y: Tensor) -> Tensor:
    return y * 2.0 if np.random.rand() < 1e-9 else y


def of_dynamic_shape(net: Net, y: Tensor) -> Tensor:
    return y + y[y > 0].mean()


def from_numpy(net: Net, y: Tensor) -> Tensor:
    return y * torch.from_numpy(np.full(1, y.numel(), np.float32))


@pytest.mark.parametrize("recipe", ["banner8", "fp32"])
@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (branching, "tells Python what is in a tensor"),
        (counting, "a step changes passes"),
        (remembering, "a step changes last_seen"),
        (drawing, "a step draws random numbers in Python"),
        (drawing_rarely, "a step draws random numbers in Python"),
        (drawing_with_numpy, "a step draws random numbers in Python"),
        (of_dynamic_shape, "tells Python what is in a tensor"),
        (from_numpy, "changes from step to step"),
    ],
)
def test_what_is_more_than_operators_is_not_replayed(
    change: Callable[[Net, Tensor], Tensor], refusal: str, recipe: str
) -> None:
    random.seed(0)
    loop = OwnLoop(change, recipe, replays=True)
    for _ in range(2 * replay_module.MAX_FAILURES + 2):
        loop.run()
    assert loop.replay is not None
    assert refusal in loop.refusal and loop.replayed == 0
    assert not loop.replay.is_recording  # it was given up


def test_what_a_module_lets_go_of_is_gone_when_recording_was_given_up() -> None:
    loop = OwnLoop(remembering, "fp32", replays=True)
    seen = []
    for _ in range(2 * replay_module.MAX_FAILURES + 2):
        loop.run()
        seen.append(weakref.ref(loop.model.last_seen))
    assert [ref() is None for ref in seen] == [True] * (len(seen) - 1) + [False]


def test_what_follows_the_clock_is_not_replayed() -> None:
    loop = OwnLoop(changed_in_place, Recipe(norm=BatchRenorm()), replays=True)
    for _ in range(5):
        loop.run()
    assert (loop.refusal, loop.replayed) == ("what a step computes follows the clock", 0)


def with_hook(loop: OwnLoop) -> None:
    loop.model.first.register_forward_hook(lambda *_: None)


def with_gradient_hook(loop: OwnLoop) -> None:
    loop.model.last.weight.register_hook(lambda g: g * 2)


@pytest.mark.parametrize("change", [with_hook, with_gradient_hook])
def test_nobody_who_looks_on_is_left_out(change: Callable[[OwnLoop], None]) -> None:
    loop = OwnLoop(changed_in_place, "banner8", replays=True)
    change(loop)
    for _ in range(5):
        loop.run()
    assert (loop.refusal, loop.replayed) == ("modules or parameters have hooks, or a site is watched", 0)


def freeze(loop: OwnLoop) -> None:
    loop.model.first.norm.weight.requires_grad_(False)


def replace_values(loop: OwnLoop) -> None:
    weight = loop.model.last.weight
    weight.data = weight.data * 2


def replace_parameter(loop: OwnLoop) -> None:
    loop.model.last.weight = nn.Parameter(loop.model.last.weight.detach() * 2)


def replace_buffer(loop: OwnLoop) -> None:
    norm = loop.model.first.norm
    norm.running_mean = norm.running_mean + 1


def add_module(loop: OwnLoop) -> None:
    loop.model.first.add_module("extra", nn.Identity())


def watch(loop: OwnLoop) -> None:
    """One site, from now on."""
    next(iter(loop.converted.sites())).watcher = lambda *_: None


def add_hook(loop: OwnLoop) -> None:
    loop.model.last.register_forward_hook(lambda module, x, y: y * 2)


def replace_module(loop: OwnLoop) -> None:
    """Whose parameters get gradients that no tape before gave."""
    torch.manual_seed(7)
    loop.model.last = nn.Linear(8, 4)


def change_setting(loop: OwnLoop) -> None:
    loop.model.change = joined


CHANGES = [
    freeze, replace_values, replace_parameter, replace_buffer, replace_module, add_module, watch, add_hook,
    with_gradient_hook, change_setting,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_tape_ends_where_the_model_is_no_longer_the_same(change: Callable[[OwnLoop], None]) -> None:
    """And the results are those of the changed model, in the step behind the change already."""
    results = []
    for replays in (False, True):
        loop = OwnLoop(changed_in_place, "banner8", replays=replays)
        before = [loop.run() for _ in range(5)]
        change(loop)
        after = [loop.run() for _ in range(4)]
        results.append([*before, *after])
        if replays:
            is_looked_at = change in (watch, add_hook, with_gradient_hook)
            assert loop.replayed == 2 + (0 if is_looked_at else 2)
    for a, b in zip(*results, strict=True):
        assert len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_hook_of_all_modules_is_called_until_it_is_gone() -> None:
    def doubled(module: nn.Module, x: object, y: Tensor) -> Tensor | None:
        return y * 2 if isinstance(module, nn.Linear) else None

    results = []
    for replays in (False, True):
        loop = OwnLoop(changed_in_place, "banner8", replays=replays)
        outcomes = [loop.run() for _ in range(4)]
        handle = nn.modules.module.register_module_forward_hook(doubled)
        try:
            outcomes.append(loop.run())
        finally:
            handle.remove()
        outcomes += [loop.run() for _ in range(4)]
        results.append(outcomes)
        assert loop.replayed == (1 + 2 if replays else 0)
    for a, b in zip(*results, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_batch_that_gets_a_gradient_is_run() -> None:
    """Also behind steps that were replayed."""
    loop = OwnLoop(changed_in_place, "banner8", replays=True)
    for _ in range(5):
        loop.run()
    for _ in range(2):
        images, labels = loop.batch()
        loop.run((images.requires_grad_(), labels))
        assert images.grad is not None
    assert (loop.replayed, loop.refusal) == (2, "the batch gets a gradient")


def test_images_and_labels_of_one_storage_are_not_told_apart() -> None:
    loop = OwnLoop(changed_in_place, "fp32", replays=True)
    for _ in range(5):
        images, labels = loop.batch()
        memory = torch.cat([images.view(-1).view(torch.int64), labels])
        loop.run((memory[: -len(labels)].view(torch.float32).view(images.shape), memory[-len(labels) :]))
    assert (loop.replayed, loop.refusal) == (0, "images and labels share memory")


@pytest.mark.filterwarnings("ignore:.torch.jit.script")
@pytest.mark.parametrize("compiled", [torch.jit.script, torch.compile])
def test_a_compiled_module_is_not_recorded(compiled: Callable[[nn.Module], nn.Module]) -> None:
    """It would run other operators than it does else."""
    loop = OwnLoop(changed_in_place, "fp32", replays=True)
    loop.model.last = compiled(loop.model.last)
    assert loop.replay is not None
    loop.replay._forward = lambda images, labels: images.sum()  # to compile takes long
    loop.converted.clock.step = 1  # codes are not noted
    images, labels = loop.batch()
    assert loop.replay.forward(images, labels) == images.sum()
    assert (loop.refusal, loop.replay.is_recording) == ("a module is compiled", False)


def test_another_batch_is_run() -> None:
    """A last batch that is smaller, and images that lie otherwise in memory."""
    results = []
    for replays in (False, True):
        loop = OwnLoop(changed_in_place, "banner8", replays=replays)
        outcomes = [loop.run() for _ in range(4)]
        outcomes.append(loop.run(loop.batch(5)))
        images, labels = loop.batch()
        outcomes.append(loop.run((images.contiguous(memory_format=torch.channels_last), labels)))
        results.append(outcomes)
        assert loop.replayed == int(replays)
    for a, b in zip(*results, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_steps_that_note_their_codes_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbench.nn.clock.OBSERVE_EVERY", 5)
    loops = [OwnLoop(changed_in_place, "banner8", replays=replays) for replays in (False, True)]
    for loop in loops:
        for _ in range(12):
            loop.run()
    assert loops[1].replayed == 12 - 3 - 2
    manifests = [loop.converted.manifest() for loop in loops]
    assert manifests[0] == manifests[1]


def test_a_step_that_is_not_finished_is_forgotten() -> None:
    """A forward pass alone, recorded or replayed, leaves nothing behind."""
    results = []
    for replays in (False, True):
        loop = OwnLoop(changed_in_place, "banner8", replays=replays)
        for number in range(8):
            if number in (2, 6):
                loop.converted.clock.step = loop.step
                batch = loop.batch()
                _ = loop._loss(*batch) if loop.replay is None else loop.replay.forward(*batch)
            result = loop.run()
        results.append(result)
        assert loop.replayed == (8 - UNRECORDED if replays else 0)
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))
