"""What options away from the defaults and the presets, which have pages of their own, make of a recipe."""

from __future__ import annotations

from dataclasses import fields

import pytest

from qbench import (
    BatchRenorm,
    Binary,
    Direct,
    FixedPoint,
    InputError,
    LevelNorm,
    Levels,
    RangeNorm,
    Recipe,
    ShiftStep,
    find_method,
)


def recipe(method: str, **options: object) -> Recipe:
    return find_method(method).build(options)


def test_wage_multiplies_no_finer_weights_than_it_stores() -> None:
    for weight_bits in (8, 16, 32):
        made = recipe("wage", weight_bits=weight_bits, gradient_bits=8)
        assert made.weight == Direct(8, 1 - 2.0**-7)


@pytest.mark.parametrize(("weight_bits", "gradient_bits"), [(8, 8), (12, 8), (32, 8)])
def test_wage_as_the_code_starts_on_no_finer_grid_than_it_stores(weight_bits: int, gradient_bits: int) -> None:
    update = recipe("wage", weight_bits=weight_bits, gradient_bits=gradient_bits, variant="code").update
    assert isinstance(update, ShiftStep)
    assert (update.master, update.start) == (Direct(8, 1 - 2.0**-7), None)


def test_wage_behind_a_batch_norm_rounds_the_trunk() -> None:
    made = recipe("wage", norm="batch")
    assert made.trunk == made.activation == Direct(8, 1 - 2.0**-7)
    assert recipe("wage").trunk is None  # an activation already


def test_fixed_point_rounds_every_path() -> None:
    """Weights lie on their grid already, so that their rounding in products is to nearest and changes nothing."""
    signal, output = FixedPoint(3, 9, "stochastic"), FixedPoint(5, 7, "stochastic")
    options = {"integer_bits": 3, "fraction_bits": 9, "output_integer_bits": 5, "output_fraction_bits": 7}
    made = recipe("fixed_point", **options)
    paths = {field.name: getattr(made, field.name) for field in fields(made)}
    assert {name for name, value in paths.items() if value == signal} == {
        "error", "branch_error", "norm_error", "gradient"
    }  # fmt: skip
    assert {name for name, value in paths.items() if value == output} == {"activation", "output", "trunk"}
    assert made.weight == FixedPoint(3, 9)


def test_graham_has_two_switches() -> None:
    levels = Levels(4, "uniform")
    assert recipe("graham", saturate=True).norm == LevelNorm(levels, saturate=True)
    assert recipe("graham", energy_correction=True).norm == LevelNorm(levels, energy_correction=True)


@pytest.mark.parametrize("method", ["sr", "r", "binaryconnect"])
def test_either_end_may_stay_float(method: str) -> None:
    for ends in ({"first_layer": "float"}, {"last_layer": "float"}):
        made = recipe(method, **ends)
        expected = {"first_layer": "quantized", "last_layer": "quantized", **ends}
        assert {"first_layer": made.first_layer, "last_layer": made.last_layer} == expected


@pytest.mark.parametrize("option", ["bits", "trunk_bits"])
def test_wageubn_has_no_grid_of_one_bit(option: str) -> None:
    """Its only value inside (-1, 1) is 0."""
    with pytest.raises(InputError, match="greater than or equal to 2, not 1"):
        recipe("wageubn", **{option: 1})


def test_what_is_written_beside_a_preset_wins() -> None:
    options = find_method("banner8").resolve({"preset": "paper", "bits": 4})
    assert (options["bits"], options["constant"]) == (4, "paper")


def test_wageubn_quantises_both_ends_or_none() -> None:
    for ends in ("float", "quantized"):
        made = recipe("wageubn", first_last=ends)
        assert (made.first_layer, made.last_layer) == (ends, ends)


def test_numbers_that_leave_nothing_to_do_are_refused() -> None:
    with pytest.raises(InputError, match="at least one draw, not 0"):
        Recipe(weight=Binary(), inference_weight="ensemble", draws=0)
    with pytest.raises(InputError, match="at least one chunk, not 0"):
        RangeNorm(chunks=0)
    for reached in ({"r_steps": 5}, {"d_steps": 5}):
        with pytest.raises(InputError, match="start to grow at step 5, which has to lie before"):
            BatchRenorm(free_steps=5, **reached)  # type: ignore[arg-type]
