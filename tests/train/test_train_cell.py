"""Training a cell: repeatable, the same start and data for every method, divergence as a result."""

from __future__ import annotations

import math
from functools import partial
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
import torch

from qbench.catalog import methods
from qbench.cell import Cell, Outcome, Status
from qbench.data import load_dataset
from qbench.errors import DataError, DeviceError
from qbench.train import Progress, build_cell, loop, train_cell
from qbench.train.progress import Reporter
from qbench.train.settings import OptimizerSettings, ScheduleSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeCell = Callable[..., Cell]


def quiet(_: Progress) -> None:
    """Nobody listens."""


def numbers(outcome: Outcome) -> dict[str, object]:
    """The outcome without the times."""
    curve = [row.model_copy(update={"wall_s": 0.0}) for row in outcome.curve]
    return outcome.model_copy(update={"wall_s": 0.0, "curve": tuple(curve)}).model_dump()


def test_two_runs_are_identical_whatever_the_random_state(make_cell: MakeCell) -> None:
    first = train_cell(make_cell(), quiet)
    torch.manual_seed(12345)
    second = train_cell(make_cell(), quiet)
    assert first.status is Status.OK
    assert numbers(first) == numbers(second)


def test_fp32_learns_the_digits(make_cell: MakeCell) -> None:
    cell = make_cell(epochs=4, max_steps_per_epoch=None, max_eval_items=None, model_options={"width": 8})
    outcome = train_cell(cell, quiet)
    assert outcome.top1 is not None
    assert outcome.top1 > 90
    assert outcome.curve[-1].train_loss < outcome.curve[0].train_loss / 2


def test_another_seed_is_another_run(make_cell: MakeCell) -> None:
    a, b = (train_cell(make_cell(seed=seed), quiet).fingerprints for seed in (0, 1))
    assert a is not None
    assert b is not None
    assert a.init_sha != b.init_sha
    assert a.order_sha != b.order_sha
    assert a.eval_sha == b.eval_sha


@pytest.mark.parametrize("method", methods().names())
def test_every_method_has_fp32s_fingerprints(method: str, make_cell: MakeCell) -> None:
    short = {"epochs": 1, "max_steps_per_epoch": 2, "max_eval_items": 8}
    theirs = train_cell(make_cell(method, **short), quiet)
    assert theirs.fingerprints == train_cell(make_cell("fp32", **short), quiet).fingerprints


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    """A method that draws from every global random state it can reach, and yields NaN from a step on."""
    path = tmp_path / "noisy.py"
    path.write_text(
        dedent('''
        import random
        import numpy
        import torch
        from qbench import Recipe, method

        class Noisy(torch.nn.Module):
            def __init__(self, model, nan_at):
                super().__init__()
                self.model, self.nan_at, self.calls = model, nan_at, 0

            def forward(self, x):
                torch.rand(7), numpy.random.rand(3), random.random()
                y = self.model(x)
                if self.training:
                    self.calls += 1
                return y * torch.nan if self.calls - 1 == self.nan_at else y

        @method("noisy")
        def noisy(*, nan_at: int = -1) -> Recipe:
            """Draws random numbers; its logits are NaN at one training step."""
            torch.rand(5)
            return Recipe(transform=lambda model: Noisy(model, nan_at))
        ''')
    )
    return str(path)


def test_a_method_that_draws_random_numbers_changes_nothing(plugin: str, make_cell: MakeCell) -> None:
    noisy, fp32 = train_cell(make_cell(plugin), quiet), train_cell(make_cell(), quiet)
    assert noisy.fingerprints == fp32.fingerprints
    assert [row.train_loss for row in noisy.curve] == [row.train_loss for row in fp32.curve]


@pytest.mark.parametrize("step", [0, 5])
def test_a_nan_loss_is_recorded_with_its_step(step: int, plugin: str, make_cell: MakeCell) -> None:
    outcome = train_cell(make_cell(plugin, {"nan_at": step}), quiet)
    assert (outcome.status, outcome.diverged_step) == (Status.DIVERGED, step)
    assert outcome.message == f"the training loss became nan at step {step}"
    assert (outcome.top1, outcome.top5, outcome.loss) == (None, None, None)
    assert outcome.epochs == len(outcome.curve) == step // 4
    assert outcome.fingerprints is not None
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome


def test_a_huge_learning_rate_diverges(make_cell: MakeCell) -> None:
    settings = OptimizerSettings(lr=1e30)
    outcome = train_cell(make_cell(optimizer=settings, schedule=ScheduleSettings(name="constant")), quiet)
    assert outcome.status is Status.DIVERGED
    assert outcome.diverged_step is not None
    assert 1 <= outcome.diverged_step <= 4
    assert outcome.status.is_result


def test_weights_that_overflow_at_the_last_step_show_in_the_validation(make_cell: MakeCell) -> None:
    settings = OptimizerSettings(lr=1e38)
    outcome = train_cell(make_cell(optimizer=settings, epochs=1, max_steps_per_epoch=1), quiet)
    assert (outcome.status, outcome.diverged_step) == (Status.DIVERGED, 0)
    assert "validation loss became" in outcome.message


def test_the_curve(make_cell: MakeCell) -> None:
    schedule = ScheduleSettings(name="step", milestones=(0.5,), factor=0.1)
    outcome = train_cell(make_cell(epochs=3, eval_every=2, schedule=schedule), quiet)
    assert [(row.epoch, row.step) for row in outcome.curve] == [(1, 4), (2, 8), (3, 12)]
    assert [row.lr for row in outcome.curve] == pytest.approx([0.05, 0.005, 0.005])
    assert [row.val_top1 is None for row in outcome.curve] == [True, False, False], "the last epoch is validated too"
    assert outcome.epochs == 3
    assert all(math.isfinite(row.train_loss) for row in outcome.curve)
    assert outcome.wall_s > sum(row.wall_s for row in outcome.curve) > 0


def test_the_first_loss_is_that_of_the_initial_weights(make_cell: MakeCell) -> None:
    """Worked out beside the loop: the first batch through the initial model."""
    cell = make_cell(epochs=1, max_steps_per_epoch=1, augment=False)
    built = build_cell(cell)
    order = torch.as_tensor(_first_indices(cell))
    images, labels = built.dataset.train.batch(order.numpy(), None)
    expected = torch.nn.functional.cross_entropy(built.model(images), labels).item()
    assert train_cell(cell, quiet).curve[0].train_loss == pytest.approx(expected, rel=1e-6)


def _first_indices(cell: Cell) -> list[int]:
    import numpy as np

    draws = np.random.Generator(np.random.Philox(key=np.array([cell.seed, 0], np.uint64)))
    return [int(i) for i in draws.permutation(len(load_dataset("digits").train))[: cell.train.batch_size]]


def test_test_figures_are_of_the_last_weights_and_the_first_items(make_cell: MakeCell) -> None:
    """Accuracy must be a multiple of one item: 50 items were evaluated."""
    outcome = train_cell(make_cell(), quiet)
    assert outcome.top1 is not None
    assert outcome.top5 is not None
    assert (outcome.top1 / 2).is_integer()
    assert outcome.top5 >= outcome.top1


def test_evaluation_leaves_the_model_as_it_was(make_cell: MakeCell) -> None:
    often = train_cell(make_cell(epochs=4, eval_every=1), quiet)
    seldom = train_cell(make_cell(epochs=4, eval_every=4), quiet)
    assert [row.train_loss for row in often.curve] == [row.train_loss for row in seldom.curve]
    assert often.top1 == seldom.top1


def test_label_smoothing_is_in_the_training_loss_only(make_cell: MakeCell) -> None:
    plain, smooth = (train_cell(make_cell(label_smoothing=s, epochs=1), quiet) for s in (0.0, 0.1))
    assert plain.curve[0].train_loss != smooth.curve[0].train_loss


def test_progress_ends_where_the_training_ends(make_cell: MakeCell) -> None:
    seen: list[Progress] = []
    outcome = train_cell(make_cell(), seen.append)
    last = seen[-1]
    assert (last.epoch, last.epochs, last.step, last.steps) == (2, 2, 8, 8)
    assert last.top1 == outcome.curve[-1].val_top1
    assert last.loss is not None
    assert len(seen) <= 2 + outcome.wall_s / 0.25


def test_progress_is_told_after_any_step(make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Reporter", partial(Reporter, min_interval_s=0.0))
    heard: list[Progress] = []
    train_cell(make_cell(), heard.append)
    assert [(p.epoch, p.step) for p in heard] == [(1 + step // 4, step + 1) for step in range(8)] + [(2, 8)]
    assert all(p.loss is not None and (p.epochs, p.steps) == (2, 8) for p in heard)


def test_the_manifest_says_what_was_quantised(make_cell: MakeCell) -> None:
    fp32 = train_cell(make_cell(epochs=1), quiet).manifest
    banner = train_cell(make_cell("banner8", epochs=1), quiet).manifest
    assert {row.arithmetic for row in fp32} == {"float"}
    weights = [row for row in banner if row.path == "weight"]
    assert weights
    assert all(row.needs_bits is not None and row.needs_bits <= 8 for row in weights)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_autocast_trains(dtype: str, make_cell: MakeCell) -> None:
    cell = make_cell("bf16", {"dtype": dtype})
    outcome, fp32 = train_cell(cell, quiet), train_cell(make_cell(), quiet)
    assert outcome.status is Status.OK
    assert outcome.fingerprints == fp32.fingerprints
    ours, exact = outcome.curve[0].train_loss, fp32.curve[0].train_loss
    assert ours != exact
    assert ours == pytest.approx(exact, rel=0.05)  # 8 bits of mantissa over four steps


def test_adam_trains(make_cell: MakeCell) -> None:
    outcome = train_cell(make_cell(optimizer=OptimizerSettings(name="adam", lr=0.01)), quiet)
    assert outcome.curve[1].train_loss < outcome.curve[0].train_loss


@pytest.mark.parametrize(("model", "expected"), [("resnet8", torch.channels_last), ("mlp", torch.contiguous_format)])
def test_images_and_weights_lie_as_the_model_takes_them(
    make_cell: MakeCell, model: str, expected: torch.memory_format
) -> None:
    built = build_cell(make_cell(model=model, model_options={}))
    images, _ = built.to_device(torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64))
    laid_out = [tensor for tensor in (images, *built.model.parameters()) if tensor.dim() == 4]
    assert built.memory_format == expected
    assert all(tensor.is_contiguous(memory_format=expected) for tensor in laid_out)


def test_mlp_trains(make_cell: MakeCell) -> None:
    cell = make_cell(model="mlp", model_options={})
    assert build_cell(cell).memory_format is torch.contiguous_format
    assert train_cell(cell, quiet).status is Status.OK


def test_a_batch_larger_than_the_data_takes_all_of_it(make_cell: MakeCell) -> None:
    built = build_cell(make_cell(batch_size=100_000, max_steps_per_epoch=None))
    assert built.plan.batch_size == len(built.dataset.train)
    assert built.plan.steps_per_epoch == 1


def test_missing_data_and_devices_are_user_errors(make_cell: MakeCell, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train_cell(make_cell(dataset="imagenet", data_root=str(tmp_path / "nowhere")), quiet)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda"):
            train_cell(make_cell(device="cuda"), quiet)
