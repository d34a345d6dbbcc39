"""The learning-rate factor against values worked out by hand."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from qbench.train.schedule import factor
from qbench.train.settings import OptimizerSettings, ScheduleSettings


def factors(settings: ScheduleSettings, total_steps: int, steps_per_epoch: int = 1) -> list[float]:
    return [factor(settings, step, total_steps, steps_per_epoch) for step in range(total_steps)]


def test_constant() -> None:
    assert factors(ScheduleSettings(name="constant"), 3) == [1, 1, 1]


def test_cosine() -> None:
    half = math.sqrt(0.5)
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert factors(ScheduleSettings(name="cosine"), 4) == pytest.approx(expected, rel=1e-15)


def test_cosine_ends_near_its_final_factor() -> None:
    settings = ScheduleSettings(name="cosine", final_factor=0.2)
    assert factor(settings, 0, 1000, 1) == 1
    assert factor(settings, 500, 1000, 1) == pytest.approx(0.6)
    assert factor(settings, 999, 1000, 1) == pytest.approx(0.2, abs=1e-5)


def test_exponential_falls_by_one_ratio() -> None:
    settings = ScheduleSettings(name="exponential", final_factor=0.01)
    assert factors(settings, 4) == pytest.approx([1, 0.01**0.25, 0.1, 0.01**0.75])


def test_step_multiplies_at_each_milestone() -> None:
    settings = ScheduleSettings(name="step", milestones=(0.5, 0.75), factor=0.1)
    assert factors(settings, 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warmup_rises_linearly_and_the_shape_follows_it() -> None:
    settings = ScheduleSettings(name="cosine", warmup_epochs=2)
    warm = [0.25, 0.5, 0.75, 1.0]
    cosine = factors(ScheduleSettings(name="cosine"), 6)
    assert factors(settings, 10, steps_per_epoch=2) == pytest.approx(warm + cosine)


def test_warmup_may_be_a_part_of_an_epoch() -> None:
    settings = ScheduleSettings(name="constant", warmup_epochs=0.5)
    assert factors(settings, 6, steps_per_epoch=4) == [0.5, 1, 1, 1, 1, 1]


def test_warmup_longer_than_the_training_only_rises() -> None:
    settings = ScheduleSettings(name="cosine", warmup_epochs=100)
    assert factors(settings, 2) == [0.5, 1]


def test_milestones_are_fractions_of_all_of_training_with_warmup() -> None:
    settings = ScheduleSettings(name="step", warmup_epochs=1, milestones=(0.5,), factor=0.5)
    assert factors(settings, 4) == [1, 1, 0.5, 0.5]


def test_exponential_to_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="final_factor above 0"):
        ScheduleSettings(name="exponential")


@pytest.mark.parametrize("settings", [{"name": "adam"}, {"momentum": 0.0}])
def test_nesterov_without_effect_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="has an effect only with"):
        OptimizerSettings.model_validate({"nesterov": True, **settings})
