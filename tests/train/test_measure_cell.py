"""A measurement's fields: present, plausible, and honest about simulation. Speeds are not asserted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from qbench.cell import Cell, Measurement, Status
from qbench.kernels import backends
from qbench.nn import Converted
from qbench.recipe import Recipe
from qbench.train import build_cell, measure_cell
from qbench.train.measure import is_simulated
from qbench.train.replay import VARIABLE
from qbench.train.settings import MeasureSettings, OptimizerSettings
from qbench.train.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeCell = Callable[..., Cell]

FLOAT = 4


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    """Measurements by method, made once."""
    return {}


def measure(cell: Cell, known: dict[str, Measurement]) -> Measurement:
    if cell.label not in known:
        known[cell.label] = measure_cell(cell)
    return known[cell.label]


def test_fields_of_fp32(make_cell: MakeCell, measured: dict[str, Measurement]) -> None:
    cell = make_cell()
    figures = measure(cell, measured)
    parameters = sum(p.numel() for p in build_cell(cell).model.parameters())
    statistics = sum(b.numel() for b in build_cell(cell).model.buffers() if b.is_floating_point())
    assert figures.status is Status.OK
    assert figures.batch_size == 32
    assert len(figures.train_step_s) == len(figures.infer_step_s) == 3
    assert min(*figures.train_step_s, *figures.infer_step_s) > 0
    assert figures.model_bytes == FLOAT * (parameters + statistics)
    assert figures.optimizer_bytes == FLOAT * parameters, "SGD's momentum"
    assert figures.energy_j_per_image is None
    assert not figures.simulated
    assert "not counted: scratch memory" in figures.memory_method


def test_peak_holds_weights_momentum_and_what_is_saved(make_cell: MakeCell, measured: dict[str, Measurement]) -> None:
    figures = measure(make_cell(), measured)
    assert figures.peak_train_bytes is not None
    assert figures.saved_bytes is not None
    assert figures.model_bytes is not None
    assert figures.optimizer_bytes is not None
    assert figures.peak_train_bytes > figures.model_bytes + figures.optimizer_bytes + figures.saved_bytes
    # The saved tensors are most of it; nothing may be counted many times over.
    assert figures.peak_train_bytes < figures.model_bytes + 2 * figures.optimizer_bytes + 2 * figures.saved_bytes


def test_saved_bytes_of_the_mlp_are_known(make_cell: MakeCell) -> None:
    """Worked out by hand from the layers: their inputs, the norms' inputs and statistics, the loss."""
    cell = make_cell(model="mlp", model_options={}, batch_size=16)
    built = build_cell(cell)
    linears = [m for m in built.model.modules() if isinstance(m, torch.nn.Linear)]
    norms = [m for m in built.model.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    n = 16
    inputs = n * sum(m.in_features for m in linears)  # a hidden layer's input is the relu's result, saved by both
    norm_inputs = n * sum(m.num_features for m in norms)
    statistics = 2 * sum(m.num_features for m in norms)
    loss = n * built.dataset.num_classes + 1  # log-probabilities and the sum of the items' weights
    labels = 8 * n
    assert measure_cell(cell).saved_bytes == FLOAT * (inputs + norm_inputs + statistics + loss) + labels


def test_memory_is_the_same_every_time(make_cell: MakeCell, measured: dict[str, Measurement]) -> None:
    again = measure_cell(make_cell())
    first = measure(make_cell(), measured)
    assert (again.peak_train_bytes, again.saved_bytes) == (first.peak_train_bytes, first.saved_bytes)


def test_saved_bytes_grow_with_the_batch(make_cell: MakeCell, measured: dict[str, Measurement]) -> None:
    double = measure_cell(make_cell(measure=MeasureSettings(batch_size=64, steps=1, warmup_steps=0)))
    single = measure(make_cell(), measured)
    assert double.batch_size == 64
    assert double.saved_bytes is not None
    assert single.saved_bytes is not None
    assert double.saved_bytes == pytest.approx(2 * single.saved_bytes, rel=0.01)  # the norms' statistics do not grow


def test_a_measurement_that_is_longer_than_the_training_begins_again(
    make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, factor = [], TrainStep.lr_factor

    def watched(self: TrainStep, step: int) -> float:
        asked.append(step)
        return factor(self, step)

    monkeypatch.setattr(TrainStep, "lr_factor", watched)
    cell = make_cell(epochs=1, max_steps_per_epoch=3, measure=MeasureSettings(steps=4, warmup_steps=1))
    assert len(measure_cell(cell).train_step_s) == 4
    assert asked[:5] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("method", ["banner8", "binaryconnect"])
def test_low_precision_in_float_is_marked(method: str, make_cell: MakeCell, measured: dict[str, Measurement]) -> None:
    figures = measure(make_cell(method), measured)
    fp32 = measure(make_cell(), measured)
    assert figures.simulated
    assert figures.model_bytes is not None
    assert fp32.model_bytes is not None
    assert figures.saved_bytes
    assert figures.peak_train_bytes


def test_inference_is_timed_in_evaluation_and_without_a_graph(
    make_cell: MakeCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    predict = Converted.predict

    def watched(self: Converted, images: torch.Tensor) -> torch.Tensor:
        seen.append((self.model.training, torch.is_grad_enabled()))
        return predict(self, images)

    monkeypatch.setattr(Converted, "predict", watched)
    figures = measure_cell(make_cell())
    assert seen == [(False, False)] * 3, "one to warm up, two until passes are replayed"
    assert figures.infer_replayed == len(figures.infer_step_s) == 3
    monkeypatch.setenv(VARIABLE, "off")
    figures = measure_cell(make_cell())
    assert seen[3:] == [(False, False)] * 4, "one to warm up, three timed"
    assert figures.infer_replayed == 0


def test_what_computed_is_told(make_cell: MakeCell) -> None:
    with backends.forced("reference"):
        told = [measure_cell(make_cell(method)).kernels for method in ("fp32", "sr")]
    assert told == [(), ("reference",)]


def test_bf16_saves_less_than_fp32(make_cell: MakeCell, measured: dict[str, Measurement]) -> None:
    figures, fp32 = measure(make_cell("bf16"), measured), measure(make_cell(), measured)
    assert not figures.simulated
    assert figures.saved_bytes is not None
    assert fp32.saved_bytes is not None
    assert figures.saved_bytes < fp32.saved_bytes


def test_a_diverging_measurement_gives_no_figures(make_cell: MakeCell) -> None:
    figures = measure_cell(make_cell(optimizer=OptimizerSettings(lr=1e30)))
    assert figures.status is Status.DIVERGED
    assert "within 6 measured steps" in figures.message, "one to warm up, two until steps are replayed, three timed"
    assert figures.train_step_s == ()


def test_what_counts_as_simulated(make_cell: MakeCell) -> None:
    simulated = make_cell()
    integer = simulated.model_copy(update={"arithmetic": "integer"})
    from qbench.quant.formats import Affine
    from qbench.recipe import OnGrid

    cases = {
        Recipe(): False,
        Recipe(autocast="bfloat16"): False,
        Recipe(weight=Affine(8)): True,
        Recipe(update=OnGrid()): True,
        Recipe(transform=torch.nn.Sequential): True,
    }
    assert {recipe: is_simulated(simulated, recipe) for recipe in cases} == cases
    assert not any(is_simulated(integer, recipe) for recipe in cases)
