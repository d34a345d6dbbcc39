"""The observed step: it sees what the quantisers saw, it leaves no trace, and every probe runs on every method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from arithmetics import both_arithmetics
from torch import Tensor

from qbench.catalog import methods
from qbench.cell import Cell, ProbeChoice, ProbeSeries
from qbench.nn.site import Site
from qbench.probes import build_probes, find_quantity, probe_names, registry
from qbench.probes.base import DATA_PATHS, data_path
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.train import build_cell, train_cell
from qbench.train.device import float_kernels
from qbench.train.loop import Training
from qbench.train.observe import Observer, unchanged
from qbench.train.settings import OptimizerSettings
from qbench.train.step import TrainStep

MakeCell = Callable[..., Cell]
Chosen = tuple[ProbeChoice, ...]

ADAM = OptimizerSettings(name="adam", lr=0.01)


def quiet(_: object) -> None:
    """Nobody listens."""


def trained(cell: Cell) -> Training:
    training = Training(build_cell(cell), quiet)
    with float_kernels(reproducible=True):
        training.run()
    return training


def state_of(training: Training) -> list[Tensor]:
    """Everything that a later step depends on: parameters, buffers, optimiser, gradients."""
    built = training._built
    slots = [value for state in built.optimizer.state.values() for value in state.values()]
    gradients = [p.grad for p in built.model.parameters() if p.grad is not None]
    return [*built.state(), *(value for value in slots if isinstance(value, Tensor)), *gradients]


def assert_equal(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.stride() == b.stride()
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def by_place(series: Sequence[ProbeSeries]) -> dict[tuple[str, str, str], tuple[float | None, ...]]:
    return {(s.quantity, s.layer, s.path): s.values for s in series}


# --- no trace


@both_arithmetics
@pytest.mark.parametrize("method", methods().names())
def test_training_is_the_same_bit_for_bit(
    make_cell: MakeCell, all_probes: Chosen, method: str, arithmetic: str
) -> None:
    cell = make_cell(method, arithmetic=arithmetic)
    torch.manual_seed(11)
    plain = trained(cell)
    generator = torch.get_rng_state()
    torch.manual_seed(11)
    probed = trained(cell.model_copy(update={"probes": all_probes}))
    assert torch.equal(torch.get_rng_state(), generator)
    assert_equal(state_of(probed), state_of(plain))
    without_time = {"wall_s": 0.0}
    curves = [[row.model_copy(update=without_time) for row in training.curve] for training in (plain, probed)]
    assert curves[0] == curves[1]
    assert probed.manifest() == plain.manifest()
    assert probed.fingerprints() == plain.fingerprints()
    assert probed.probes()
    assert not plain.probes()


@pytest.mark.parametrize(
    ("method", "options", "optimizer"),
    [
        ("sr", {"grid": "fixed"}, ADAM),
        ("sr", {"batches": 3}, OptimizerSettings(lr=0.05)),
        ("binaryconnect", {"rounding": "stochastic"}, ADAM),
        ("bf16", {"dtype": "float16"}, OptimizerSettings(lr=0.05)),
        ("fp32", {}, OptimizerSettings(lr=0.05, nesterov=True)),
    ],
)
def test_no_trace_in_the_other_optimisers(
    make_cell: MakeCell, all_probes: Chosen, method: str, options: dict[str, object], optimizer: OptimizerSettings
) -> None:
    cell = make_cell(method, options, optimizer=optimizer)
    plain, probed = trained(cell), trained(cell.model_copy(update={"probes": all_probes}))
    assert_equal(state_of(probed), state_of(plain))


def test_the_outcome_differs_by_the_probes_alone(make_cell: MakeCell, all_probes: Chosen) -> None:
    cell = make_cell("banner8")
    plain, probed = (train_cell(c, quiet) for c in (cell, cell.model_copy(update={"probes": all_probes})))
    assert (plain.top1, plain.loss, plain.fingerprints) == (probed.top1, probed.loss, probed.fingerprints)
    assert plain.probes == ()


def test_a_failure_inside_is_undone_too(make_cell: MakeCell) -> None:
    built = build_cell(make_cell("wageubn"))
    before = [tensor.clone() for tensor in built.state()]
    step = TrainStep(built)
    batch = built.to_device(*built.dataset.train.batch(torch.arange(16).numpy(), None))

    def fail() -> None:
        with unchanged(built):
            step.update(step.forward(5, *batch))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert_equal(built.state(), before)
    assert built.converted.clock.step == 0
    assert not any(built.optimizer.state.values())
    assert all(parameter.grad is None for parameter in built.model.parameters())
    assert all(site.watcher is None and site.seen.low is None for site in built.converted.sites())


def test_nobody_watches_outside_of_the_observed_step(make_cell: MakeCell, all_probes: Chosen) -> None:
    training = trained(make_cell("banner8", probes=all_probes))
    assert all(site.watcher is None for site in training._built.converted.sites())


# --- what is seen


@both_arithmetics
@pytest.mark.parametrize("method", methods().names())
def test_the_exact_tensor_is_the_one_that_was_quantised(make_cell: MakeCell, method: str, arithmetic: str) -> None:
    """Encoding it again, with the same format and random bits, gives the same codes: also where a fused block never
    held it."""
    built = build_cell(make_cell(method, arithmetic=arithmetic))
    seen: dict[str, bool] = {}

    def watch(site: Site, q: QTensor, exact: Tensor) -> None:
        if site.format == q.format:  # a weight that lives on its grid is not rounded again
            assert torch.equal(quantize(exact, q.format, site.key).codes, q.codes), site.name
        seen[site.name] = True

    step = TrainStep(built)
    batch = built.to_device(*built.dataset.train.batch(torch.arange(16).numpy(), None))
    with float_kernels(reproducible=True), unchanged(built):
        for site in built.converted.sites():
            site.watcher = watch
        step.update(step.forward(0, *batch))
    unrounded = {f"{e.layer}/{e.path}" for e in built.converted.manifest() if e.declared.startswith("line of")}
    assert set(seen) == {site.name for site in built.converted.sites()} - unrounded


@pytest.mark.parametrize("method", ["banner8", "graham", "wage", "sr"])
def test_both_arithmetics_observe_the_same(make_cell: MakeCell, all_probes: Chosen, method: str) -> None:
    found = [
        by_place(trained(make_cell(method, arithmetic=arithmetic, probes=all_probes)).probes())
        for arithmetic in ("integer", "simulated")
    ]
    assert found[0] == found[1]


def test_float_training_is_exact(make_cell: MakeCell, all_probes: Chosen) -> None:
    found = by_place(trained(make_cell("fp32", probes=all_probes)).probes())
    layers = {layer for _, layer, _ in found}
    assert len(layers) == 10
    for layer in layers:
        assert found["cosine", layer, "loss_gradient"] == (1.0, 1.0)
        assert found["sqnr", layer, "loss_gradient"] == (math.inf, math.inf)
        assert found["gradient_to_exact", layer, "loss_gradient"] == (1.0, 1.0)
        # The update rounds to float32: the computed change agrees with the stored one to about its rounding.
        assert found["cosine", layer, "update"] == (1.0, 1.0)


@pytest.mark.parametrize("optimizer", [OptimizerSettings(lr=0.05, nesterov=True, weight_decay=1e-3), ADAM])
def test_wanted_changes_are_those_of_the_suites_optimiser(
    make_cell: MakeCell, all_probes: Chosen, optimizer: OptimizerSettings
) -> None:
    found = by_place(trained(make_cell("fp32", optimizer=optimizer, probes=all_probes)).probes())
    ratios = [value for (quantity, _, path), values in found.items() for value in values
              if (quantity, path) == ("sqnr", "update")]  # fmt: skip
    # A change of 1e-3 in a weight of 0.1 is stored to 2^-24 * 0.1, or 100 dB.
    assert len(ratios) == 20
    assert min(value for value in ratios if value is not None) > 60


def test_nearest_rounding_on_a_grid_undoes_what_stochastic_rounding_lets_through(
    make_cell: MakeCell, all_probes: Chosen
) -> None:
    optimizer = OptimizerSettings(lr=0.005, momentum=0.0)
    r, sr = (
        by_place(trained(make_cell(m, {"grid": "fixed"}, optimizer=optimizer, probes=all_probes)).probes())
        for m in ("r", "sr")
    )
    layer = "stages.0.0.conv1.conv"
    assert r["wanted", layer, "update"][0] == pytest.approx(1.0, abs=0.02)
    assert r["effective", layer, "update"] == (0.0, 0.0)
    assert r["code_since_start", layer, "weight"] == (0.0, 0.0)
    assert r["off_by_0", layer, "update"] == (1.0, 1.0)
    effective, off = sr["effective", layer, "update"][0], sr["off_by_1", layer, "update"][0]
    assert effective is not None
    # A change below half a step is effective where SR goes the other way than nearest.
    assert 0 < effective < 0.5
    assert off == pytest.approx(effective, abs=0.02)
    assert sr["off_by_more", layer, "update"] == (0.0, 0.0)


def test_nearest_rounding_lands_on_the_code_nearest_to_what_was_wanted(make_cell: MakeCell, all_probes: Chosen) -> None:
    """In updates of several steps of the grid."""
    cell = make_cell("r", {"grid": "fixed"}, optimizer=OptimizerSettings(lr=5.0, momentum=0.0), probes=all_probes)
    found = by_place(trained(cell).probes())
    layer = "stages.0.0.conv1.conv"
    effective = found["effective", layer, "update"][0]
    assert effective is not None and effective > 0.5
    assert found["off_by_0", layer, "update"] == (1.0, 1.0)


def test_a_rule_that_rounds_more_than_once_is_held_to_no_nearest_code(make_cell: MakeCell, all_probes: Chosen) -> None:
    found = by_place(trained(make_cell("wageubn", probes=all_probes)).probes())
    assert not any(quantity.startswith("off_by") for quantity, _, _ in found)
    assert "update" in {path for quantity, _, path in found if quantity == "sqnr"}


def test_gradients_of_a_scaled_loss_are_shown_without_the_scale(make_cell: MakeCell, all_probes: Chosen) -> None:
    found = by_place(trained(make_cell("bf16", {"dtype": "float16"}, probes=all_probes)).probes())
    ratios = [values for (quantity, _, _), values in found.items() if quantity == "gradient_to_exact"]
    assert ratios and all(value == pytest.approx(1, rel=0.1) for values in ratios for value in values)


def test_a_run_that_diverges_keeps_what_was_observed(make_cell: MakeCell, all_probes: Chosen) -> None:
    outcome = train_cell(
        make_cell("fp32", epochs=6, optimizer=OptimizerSettings(lr=1e6), probes=all_probes, max_steps_per_epoch=1),
        quiet,
    )
    assert outcome.status == "diverged"
    assert all(len(series.values) == outcome.epochs for series in outcome.probes)
    again = type(outcome).model_validate_json(outcome.model_dump_json())
    assert again.model_dump_json() == outcome.model_dump_json()


def test_what_a_series_is_keeps_its_length_where_a_tensor_appears_late(make_cell: MakeCell) -> None:
    observer = Observer(build_cell(make_cell("fp32", probes=(ProbeChoice(name="cosine"),))))
    observer._epochs = 3
    observer._note("cosine", "layer", "path", {"cosine": 0.123456789})
    assert observer.series()[0].values == (None, None, 0.1234568)


# --- every probe on every method


@pytest.mark.parametrize("method", methods().names())
@pytest.mark.parametrize("probe", probe_names())
def test_every_probe_runs_on_every_method(make_cell: MakeCell, probe: str, method: str) -> None:
    choice = ProbeChoice(name=probe, options=registry.get(probe).resolve({}))
    cell = make_cell(method, model="mlp", model_options={}, batch_size=32, probes=(choice,), max_steps_per_epoch=1)
    outcome = train_cell(cell, quiet)
    assert outcome.status == "ok"
    assert {series.probe for series in outcome.probes} == {probe} or not has_sites(method)
    stated = {quantity.name for quantity in build_probes([choice])[probe].quantities}
    for series in outcome.probes:
        assert series.quantity in stated
        assert data_path(series.path) in DATA_PATHS
        assert len(series.values) == 2
        assert_in_range(series)


def has_sites(method: str) -> bool:
    return methods().get(method).build({}).converts


def assert_in_range(series: ProbeSeries) -> None:
    quantity = find_quantity(series.probe, series.quantity)
    for value in series.values:
        if value is None or math.isnan(value):
            continue
        low = -1.0 if quantity.name == "cosine" else quantity.low
        assert low is None or value >= low
        assert quantity.high is None or value <= quantity.high
        assert quantity.unit != "share" or value <= 1


TRANSFORMED = """
from torch import nn
from qbench import Recipe, Symmetric, method


def double(model):
    return nn.Sequential(model, nn.Identity())


@method("doubled", null={})
def doubled() -> Recipe:
    \"\"\"A recipe with a last step of its own.\"\"\"
    return Recipe(weight=Symmetric(4), transform=double)
"""


PARAMETRISED = """
from torch import nn
from torch.nn.utils import parametrize
from qbench import Recipe, method


class Rounded(nn.Module):
    def forward(self, weight):
        return weight + (weight.sign() * weight.abs().mean() - weight).detach()


def parametrised(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            parametrize.register_parametrization(module, "weight", Rounded())
    return model


@method("parametrised", null={})
def rounded() -> Recipe:
    \"\"\"Weights that are computed of the trained ones.\"\"\"
    return Recipe(transform=parametrised)
"""


def test_weights_that_are_no_parameters_are_left_out(make_cell: MakeCell, all_probes: Chosen, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PARAMETRISED)
    outcome = train_cell(make_cell(f"{tmp_path / 'mine.py'}:parametrised", probes=all_probes), quiet)
    assert (outcome.status, outcome.message) == ("ok", "")
    assert {series.layer for series in outcome.probes} == {"classifier"}


def test_a_method_with_a_transform_of_its_own(make_cell: MakeCell, all_probes: Chosen, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(dedent(TRANSFORMED))
    outcome = train_cell(make_cell(f"{tmp_path / 'mine.py'}:doubled", probes=all_probes), quiet)
    assert {"weight", "loss_gradient", "update"} == {series.path for series in outcome.probes}
