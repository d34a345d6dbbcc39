"""Replayed steps are those that PyTorch would have run, bit for bit; and what cannot be replayed is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from arithmetics import both_arithmetics
from batches import batch_of
from drawn_networks import DrawnNetwork
from own_loop import UNRECORDED, Net, OwnLoop, changed_in_place, dropped, hooked, joined, recomputed, used_again
from recorded_steps import CONFIGURATIONS
from torch import Tensor, nn

from qbench import find_method
from qbench.cell import Cell, Outcome, ProbeChoice
from qbench.nn import ConvNormAct
from qbench.nn.clock import Clock
from qbench.optim import build_optimizer
from qbench.recipe import LayerScale
from qbench.train import measure as measure_module
from qbench.train import step as step_module
from qbench.train.build import BuiltCell, build_cell
from qbench.train.loop import train_cell
from qbench.train.measure import measure_cell
from qbench.train.memory import peak_step_bytes
from qbench.train.replay import VARIABLE
from qbench.train.replay.native import NativeTape
from qbench.train.replay.trial import PLAYS
from qbench.train.settings import MeasureSettings, OptimizerSettings
from qbench.train.step import TrainStep

MakeCell = Callable[..., Cell]
STEPS = 7
FOLLOWING_THE_CLOCK = [("fixed_point", {"rounding": "nearest", "norm": "renorm"})]
METHODS = [*CONFIGURATIONS, ("fp32", {}), ("bf16", {})]


@dataclass
class Steps:
    """What some steps left. losses: as text, bit for bit. replayed: how many came from a tape."""

    built: BuiltCell
    losses: list[str]
    replayed: int
    refusal: str

    def state(self) -> list[Tensor]:
        """All that training changes, and what the network says then."""
        optimizer = [x for state in self.built.optimizer.state.values() for x in state.values()]
        self.built.model.eval()
        with torch.no_grad():
            outputs = self.built.converted.predict(batch_of(self.built, 0)[0])
        self.built.model.train()
        return [*self.built.state(), *(x for x in optimizer if isinstance(x, Tensor)), outputs]


def train(cell: Cell, *, replays: bool) -> Steps:
    built = build_cell(cell)
    built.model.train()
    step, losses, replayed = TrainStep(built, replays=replays), [], 0
    for number in range(STEPS):
        loss = step.forward(number, *batch_of(built, number))
        losses.append(repr(loss.item()))
        step.update(loss)
        replayed += step.is_replayed
    return Steps(built, losses, replayed, "" if step._replay is None else step._replay.refusal)


def assert_same(a: Steps, b: Steps) -> None:
    assert a.losses == b.losses
    for x, y in zip(a.state(), b.state(), strict=True):
        assert torch.equal(x.nan_to_num(), y.nan_to_num())


@both_arithmetics
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_replayed_steps_are_the_same(
    method: str, options: dict[str, object], arithmetic: str, make_cell: MakeCell
) -> None:
    cell = make_cell(method, options, arithmetic=arithmetic)
    expected, steps = train(cell, replays=False), train(cell, replays=True)
    assert_same(steps, expected)
    assert expected.replayed == 0
    if (method, options) in FOLLOWING_THE_CLOCK:
        assert (steps.replayed, steps.refusal) == (0, "what a step computes follows the clock")
    elif arithmetic == "simulated" and steps.refusal:
        assert steps.replayed == 0 and "tells Python what is in a tensor" in steps.refusal
    else:
        assert (steps.replayed, steps.refusal) == (STEPS - UNRECORDED, "")


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["fp32", "banner8", "wageubn", "sr"])
def test_large_weights_are_updated_early_in_a_replay_too(
    method: str, name: str, make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "LARGE_BYTES", 1)
    cell = make_cell(method, optimizer=OptimizerSettings(name=name, lr=0.01), arithmetic="integer")  # type: ignore[arg-type]
    expected, steps = train(cell, replays=False), train(cell, replays=True)
    assert_same(steps, expected)
    assert steps.replayed == STEPS - UNRECORDED
    left = [sum(p.grad is not None for p in steps.built.model.parameters()) for steps in (expected, steps)]
    assert left[0] == left[1] and (left[0] == 0) == (method in ("fp32", "banner8"))


@pytest.mark.parametrize("method", ["fp32", "banner8", "graham", "wageubn", "wage"])
def test_a_replayed_step_holds_no_more_bytes(method: str, make_cell: MakeCell) -> None:
    peaks = []
    for replays in (False, True):
        built = build_cell(make_cell(method, arithmetic="integer"))
        built.model.train()
        step, batch, number = TrainStep(built, replays=replays), batch_of(built, 0), 0

        def one_step(step: TrainStep = step, batch: tuple[Tensor, Tensor] = batch) -> None:
            nonlocal number
            step.update(step.forward(number, *batch))
            number += 1

        for _ in range(UNRECORDED):
            one_step()
        peaks.append(peak_step_bytes(one_step, [*built.state(), *built.optimizer.state.values(), *batch]))
        assert step.is_replayed is replays
    assert peaks[1] <= 1.02 * peaks[0]  # of two tensors that end with one operator, another may be let go first


def outcome_of(cell: Cell, monkeypatch: pytest.MonkeyPatch, setting: str) -> Outcome:
    monkeypatch.setenv(VARIABLE, setting)
    outcome = train_cell(cell, lambda _: None)
    curve = tuple(row.model_copy(update={"wall_s": 0.0}) for row in outcome.curve)
    return outcome.model_copy(update={"wall_s": 0.0, "curve": curve})


@pytest.mark.parametrize("method", ["banner8", "wageubn", "sr"])
def test_a_whole_training_says_the_same(method: str, make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies, losses, the manifest of codes seen, which grows in the 51st step, and what probes observe between the
    epochs, whose watchers a tape knows nothing of."""
    probes = (ProbeChoice(name="sqnr"),) if method == "banner8" else ()
    cell = make_cell(method, arithmetic="integer", epochs=3, max_steps_per_epoch=20, probes=probes)
    counted = []
    play = NativeTape.play
    monkeypatch.setattr(NativeTape, "play", lambda self, *batch: counted.append(1) or play(self, *batch))
    expected = outcome_of(cell, monkeypatch, "off")
    assert not counted
    assert outcome_of(cell, monkeypatch, "on") == expected
    assert len(counted) == PLAYS + 60 - UNRECORDED - 1


def test_a_measurement_says_how_many_steps_were_replayed(make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make_cell("banner8", arithmetic="integer", epochs=10, measure=MeasureSettings(steps=5, warmup_steps=3))
    figures = measure_cell(cell)
    monkeypatch.setenv(VARIABLE, "off")
    plain = measure_cell(cell)
    assert (figures.replayed, plain.replayed) == (5, 0)
    assert (figures.peak_train_bytes, figures.saved_bytes) == (plain.peak_train_bytes, plain.saved_bytes)


@pytest.mark.parametrize(("method", "options"), [("fp32", {}), ("banner8", {}), *FOLLOWING_THE_CLOCK])
def test_no_step_is_timed_that_is_recorded(
    method: str, options: dict[str, object], make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few the warm-up steps are: it takes longer than those that follow, and than those of other methods."""
    timed, seconds = [], measure_module._Bench._seconds

    def noted(bench: measure_module._Bench, *arguments: Any) -> float:
        timed.append(bench._timed_step.is_settled)
        return seconds(bench, *arguments)

    monkeypatch.setattr(measure_module._Bench, "_seconds", noted)
    settings = MeasureSettings(steps=2, warmup_steps=0)
    measure_cell(make_cell(method, options, arithmetic="integer", epochs=10, measure=settings))
    assert len(timed) == 2 + 2 and all(timed)


@pytest.mark.parametrize("recipe", ["banner8", "wageubn", "graham", "fp32"])
@pytest.mark.parametrize("change", [dropped, changed_in_place, joined, recomputed, used_again, hooked])
def test_what_a_model_of_ones_own_does_between_is_replayed(
    change: Callable[[Net, Tensor], Tensor], recipe: str
) -> None:
    """Random numbers of PyTorch's generator among them: a replay draws them anew."""
    results = []
    for replays in (False, True):
        loop = OwnLoop(change, recipe, replays=replays)
        torch.manual_seed(5)
        results.append([loop.run() for _ in range(STEPS)])
        assert loop.replayed == (STEPS - UNRECORDED if replays else 0)
    for a, b in zip(*results, strict=True):
        assert len(a) == len(b) > 4 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("recipe", ["banner8", "wageubn", "fp32"])
def test_an_evaluation_sees_the_buffers_that_a_forward_pass_left(recipe: str) -> None:
    """Also where no update follows, behind which evaluations compute everything anew."""
    results = []
    for replays in (False, True):
        loop = OwnLoop(changed_in_place, recipe, replays=replays)
        for _ in range(5):
            loop.run()
        images, outputs = loop.batch()[0], []
        for _ in range(3):
            loop.model.eval()
            with torch.no_grad():
                outputs.append(loop.converted.predict(images))
            loop.model.train()
            loop.run()
        results.append(outputs)
        assert not torch.equal(outputs[0], outputs[2])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_the_clock_knows_who_asked_it() -> None:
    clock = Clock()
    clock.step = 3
    assert clock.key(7).step == 3 and not clock.is_noting and clock.readings == 0
    assert clock.step == 3 and clock.progress == 1.0 and clock.micro_batch == 0
    assert clock.readings == 3


@pytest.mark.parametrize(("method", "options"), [("banner8", {}), ("fixed_point", {})], ids=str)
def test_replayed_micro_batches_draw_their_own_bits(method: str, options: dict[str, object]) -> None:
    """A tape that was recorded in one serves the others, with the bits of each."""
    numbers, batch = (0, 0, 1, 2, 0, 3, 255, 1), None
    results = []
    for replays in (False, True):
        loop = OwnLoop(changed_in_place, find_method(method).build(options), replays=replays)
        batch = batch or loop.batch()
        outcomes = []
        for place, number in enumerate(numbers):
            loop.converted.clock.micro_batch = number
            loop.step = 0 if place == 0 else 7  # where it is 0, codes are noted and nothing is recorded
            outcomes.append(loop.run(batch))
        assert loop.replayed == (len(numbers) - UNRECORDED if replays else 0)
        results.append(outcomes)
    for run, replayed in zip(*results, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(run, replayed, strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(results[1][4], results[1][5], strict=True))


class Forked(nn.Module):
    """An image of one channel that two blocks read."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ConvNormAct(3, 1, 3, activation=False)
        self.branches = nn.ModuleList(ConvNormAct(1, 4, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.trunk(x)
        y.register_hook(lambda gradient: gradient + 0.5)
        return sum(branch(y) for branch in self.branches).mean((2, 3))  # type: ignore[no-any-return,attr-defined]


def test_gradients_of_one_channel_are_added_up_as_in_place() -> None:
    """Float norms add up in the order of the strides, which images of one channel leave open."""
    runs = []
    for replays in (False, True):
        torch.manual_seed(2)
        loop = OwnLoop(Forked(), "r", replays=replays)
        runs.append([loop.run() for _ in range(5)])
        assert loop.replayed == (5 - UNRECORDED if replays else 0)
    for run, replayed in zip(*runs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(run, replayed, strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("method", "options"), METHODS, ids=str)
def test_drawn_networks_are_replayed(method: str, options: dict[str, object], seed: int) -> None:
    recipe = find_method(method).build(options)
    network = DrawnNetwork(seed, bare_norms=not isinstance(recipe.norm, LayerScale))
    results = []
    for replays in (False, True):
        loop = OwnLoop(network, recipe, replays=replays)
        optimizer = build_optimizer(loop.converted, recipe, OptimizerSettings(lr=0.05, momentum=0.9))
        torch.manual_seed(seed)
        for _ in range(6):
            results.append(loop.run())
            optimizer.step()
        results.append([t.clone() for t in loop.model.state_dict().values()])
    for a, b in zip(results[:7], results[7:], strict=True):
        assert len(a) == len(b) and all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True))
