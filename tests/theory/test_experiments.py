"""Every experiment at a small size: its known answers are met, its pictures show something, and a rule that is wrong is
noticed. Tolerances are the experiments' own: four standard errors, plus allowances that each of them explains."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from qbench.errors import InputError, UnknownNameError
from qbench.kernels import updates
from qbench.report.plots.style import plot_style
from qbench.report.plots.theory import draw
from qbench.theory import find_experiment, registry
from qbench.theory.findings import Findings
from qbench.theory.progress import silent

SMALL: dict[str, Mapping[str, object]] = {
    "quadratic_chain": {"fraction_bits": [0, 1], "iterations": 200, "chains": 500},
    "stochastic_floor": {
        "fraction_bits": [1, 3], "batches": [1, 4], "dimensions": 8, "samples": 40, "chains": 16, "iterations": 200,
        "burn_in": 100,
    },
    "binaryconnect_convex": {
        "fraction_bits": [1], "dimensions": 8, "samples": 60, "chains": 6, "iterations": 1500
    },
    "toy_landscape": {"noises": [5.0], "steps": [1.0, 0.1, 0.03], "chains": 150, "iterations": 1000},
    "annealing": {"noises": [5.0], "steps": [1.0, 0.1, 0.03, 0.01], "chains": 100, "iterations": 300},
    "gaussian_direction": {"bits": [2, 4, 8], "count": 50_000, "draws": 2},
    "layer_direction": {"bits": [2, 4, 6], "model": "mlp", "training_epochs": 2},
    "accuracy_by_bits": {"bits": [2, 8], "training_epochs": 4},
    "range_constant": {"counts": [16, 256], "values": 200_000, "chunked_count": 256, "chunks": [1, 4]},
    "range_training": {
        "constants": ["code"], "chunks": [16], "model": "mlp", "training_epochs": 6, "seeds": 2
    },
    "pure_noise": {"steps": [0.03], "weights": 2000, "epochs": 2, "iterations": 60},
    "weight_change": {"training_epochs": 8, "seeds": 2, "batch_size": 32, "large_batch_size": 256},
}  # fmt: skip
FOUND = {
    "quadratic_chain": (4, 3), "stochastic_floor": (19, 10), "binaryconnect_convex": (9, 4), "toy_landscape": (15, 18),
    "annealing": (5, 3), "gaussian_direction": (29, 5), "layer_direction": (17, 6), "accuracy_by_bits": (5, 2),
    "range_constant": (12, 8), "range_training": (2, 1), "pure_noise": (6, 6), "weight_change": (9, 8),
}  # fmt: skip
"""How many answers, and series of points in pictures, each finds at this size."""

TRAINED = {"layer_direction", "accuracy_by_bits", "range_training", "weight_change"}
CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in TRAINED else []) for name in SMALL]


@pytest.fixture(scope="module")
def findings():
    """Runs an experiment once for all tests that look at it."""
    found: dict[str, Findings] = {}

    def run(name: str) -> Findings:
        if name not in found:
            found[name] = find_experiment(name).build(SMALL[name], seed=0, progress=silent)
        return found[name]

    return run


def test_every_experiment_is_tested_here():
    assert sorted(SMALL) == registry.names()


@pytest.mark.parametrize("name", CASES)
def test_known_answers_are_met(name, findings):
    answers = findings(name).answers
    missed = [answer for answer in answers if answer.verdict == "outside"]
    assert not missed
    assert len(answers) == FOUND[name][0]
    assert any(answer.verdict == "within" for answer in answers)
    assert all(answer.source and answer.quantity and answer.setting for answer in answers)
    places = [(answer.quantity, answer.setting, answer.relation) for answer in answers]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("name", CASES)
def test_pictures_show_something_and_are_labelled(name, findings):
    pictures = findings(name).pictures
    assert sum(len(panel.series) for picture in pictures for panel in picture.panels) == FOUND[name][1]
    for picture in pictures:
        with plot_style():
            figure = draw(picture)
            assert_labelled(figure, len(picture.panels))
            stream = BytesIO()
            figure.savefig(stream, format="png", dpi=80)
        with Image.open(stream) as drawn:
            assert len(set(drawn.convert("L").resize((64, 64)).tobytes())) > 20  # not blank


def assert_labelled(figure: Figure, panels: int) -> None:
    assert figure.get_suptitle().strip()
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.axison]
    assert len(shown) == panels
    assert any(axes.get_xlabel() for axes in shown)
    assert any(axes.get_ylabel() for axes in shown)
    assert all(axes.lines or axes.patches or axes.collections for axes in shown)
    (legend,) = figure.legends
    assert all(text.get_text() for text in legend.get_texts())


@pytest.mark.parametrize("name", ["quadratic_chain", "pure_noise"])
def test_equal_seeds_give_equal_findings(name, findings):
    experiment = find_experiment(name)
    assert experiment.build(SMALL[name], seed=0, progress=silent) == findings(name)
    assert experiment.build(SMALL[name], seed=1, progress=silent) != findings(name)


def test_progress_rises_to_one():
    told: list[float] = []
    find_experiment("annealing").build(SMALL["annealing"], seed=0, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("name", ["quadratic_chain", "stochastic_floor", "toy_landscape", "annealing", "pure_noise"])
def test_a_biased_rounding_is_noticed(name, monkeypatch):
    """Rounding that leans upwards by a twentieth of the grid."""
    right = updates.sgd_on_grid_

    def leaning(codes, grad, momentum, lr, decay, mu, nesterov, first, scale, *rest):
        right(codes, grad - 0.05 * scale / lr, momentum, lr, decay, mu, nesterov, first, scale, *rest)

    monkeypatch.setattr("qbench.theory.rules.sgd_on_grid_", leaning)
    monkeypatch.setattr("qbench.theory.experiments.pure_noise.sgd_on_grid_", leaning)
    answers = find_experiment(name).build(SMALL[name], seed=0, progress=silent).answers
    assert any(answer.verdict == "outside" for answer in answers)


def test_rounding_to_nearest_in_place_of_stochastic_is_noticed(monkeypatch):
    right = updates.sgd_on_grid_

    def nearest(codes, grad, momentum, lr, decay, mu, nesterov, first, scale, low, high, rounding, key):
        right(codes, grad, momentum, lr, decay, mu, nesterov, first, scale, low, high, "nearest", None)

    monkeypatch.setattr("qbench.theory.rules.sgd_on_grid_", nearest)
    answers = find_experiment("quadratic_chain").build(SMALL["quadratic_chain"], seed=0, progress=silent).answers
    assert all(answer.verdict == "outside" for answer in answers)


def test_a_coarser_quantiser_is_noticed(monkeypatch):
    from qbench.theory.experiments import gaussian_direction

    right = gaussian_direction.quantize

    def coarser(x, spec, key, limits=None):
        q = right(x, spec, key, limits)
        return type(q)(q.codes // 2 * 2, q.scale, q.zero_point, q.format)

    monkeypatch.setattr(gaussian_direction, "quantize", coarser)
    found = find_experiment("gaussian_direction").build(SMALL["gaussian_direction"], seed=0, progress=silent)
    affine = [answer for answer in found.answers if "affine" in answer.quantity]
    assert any(answer.verdict == "outside" for answer in affine)


def test_a_wrong_range_constant_is_noticed(monkeypatch):
    from qbench.nn.norms import range as range_norm

    monkeypatch.setattr(range_norm, "range_constant", lambda kind, count: 1.02 / range_norm.expected_range(count))
    found = find_experiment("range_constant").build(SMALL["range_constant"], seed=0, progress=silent)
    assert any(answer.verdict == "outside" for answer in found.answers)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("quadratic_chain", {"step": 0.1}, UnknownNameError, "did you mean 'steps'"),
        ("quadratic_chain", {"steps": [0.0]}, InputError, "greater than 0"),
        ("stochastic_floor", {"chains": 1}, InputError, "greater than or equal to 2"),
        ("toy_landscape", {"noises": "5"}, InputError, "option 'noises'"),
        ("range_constant", {"counts": [2]}, InputError, "greater than or equal to 4"),
        ("gaussian_direction", {"bits": [13]}, InputError, "less than or equal to 12"),
        ("layer_direction", {"error_rounding": "up"}, InputError, "option 'error_rounding'"),
        ("layer_direction", {"model": "nosuch"}, UnknownNameError, "unknown model 'nosuch'"),
    ],
)
def test_bad_options(name, options, kind, message):
    with pytest.raises(kind, match=message):
        find_experiment(name).build(options, seed=0, progress=silent)


def test_an_unknown_experiment_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'toy_landscape'"):
        find_experiment("toy_landscap")


def test_experiments_leave_torch_s_global_generator_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    find_experiment("pure_noise").build(SMALL["pure_noise"], seed=0, progress=silent)
    assert torch.equal(before, torch.random.get_rng_state())
