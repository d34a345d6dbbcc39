"""Training and measuring settings: what a suite's ``train:`` and ``measure:`` sections may say.

Every field is part of a result's key. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from qbench.options import Fraction

MOST = 10**9
"""The largest number of epochs, steps and items: more than any training takes, and exact in float arithmetic."""


class Settings(BaseModel):
    """Base of all settings: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def differences(first: Settings, second: Settings, prefix: str = "") -> dict[str, tuple[object, object]]:
    """Where two settings of one kind differ, as {dotted name: (first, second)}."""
    found: dict[str, tuple[object, object]] = {}
    for (name, mine), (_, other) in zip(first, second, strict=True):
        if isinstance(mine, Settings) and isinstance(other, Settings):
            found.update(differences(mine, other, f"{prefix}{name}."))
        elif mine != other:
            found[f"{prefix}{name}"] = (mine, other)
    return found


class OptimizerSettings(Settings):
    """The optimiser every method of a suite shares, unless its recipe brings its own update rule."""

    name: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(default=0.1, gt=0, description="learning rate before the schedule")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="SGD momentum, or Adam's beta1")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam's second-moment decay")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 added to gradients of weights, not biases and norms")
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_sgd_momentum(self) -> Self:
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise ValueError("nesterov: true has an effect only with name: sgd and a momentum above 0")
        return self


class ScheduleSettings(Settings):
    """The learning rate over training, as a factor on ``lr``; steps are optimiser steps."""

    name: Literal["constant", "cosine", "step", "exponential"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0, le=MOST, description="linear warm-up from 0")
    milestones: tuple[Fraction, ...] = Field(default=(0.5, 0.75), description="step: fractions of training")
    factor: float = Field(default=0.1, gt=0, lt=1, description="step: multiplier at each milestone")
    final_factor: float = Field(default=0.0, ge=0, le=1, description="cosine and exponential: factor at the end")

    @model_validator(mode="after")
    def _exponential_never_reaches_zero(self) -> Self:
        if self.name == "exponential" and self.final_factor == 0:
            raise ValueError("schedule exponential needs a final_factor above 0, for example 0.01")
        return self


class TrainSettings(Settings):
    """How one cell is trained."""

    epochs: int = Field(default=30, ge=1, le=MOST)
    batch_size: int = Field(default=128, ge=1, le=MOST)
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    augment: bool = True
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    random_bits: Literal["philox", "hash"] = Field(
        default="philox", description="generator of stochastic rounding: Philox4x32-7, or a cheaper hash"
    )
    eval_every: int = Field(
        default=1, ge=1, le=MOST, description="epochs between validations; the last epoch is validated too"
    )
    max_steps_per_epoch: int | None = Field(
        default=None, ge=1, le=MOST, description="cut an epoch short (quick profiles)"
    )
    max_eval_items: int | None = Field(default=None, ge=1, le=MOST, description="evaluate on the first items only")
    timeout_s: float | None = Field(default=None, gt=0, le=MOST, description="stop the cell after this long")


class MeasureSettings(Settings):
    """How speed and memory are measured, in passes of their own."""

    enabled: bool = True
    rounds: int = Field(default=3, ge=1, le=1000, description="rounds; every method is visited once per round")
    warmup_steps: int = Field(default=3, ge=0, le=MOST)
    steps: int = Field(
        default=10, ge=1, le=MOST, description="timed training steps, and as many inference batches, per round"
    )
    batch_size: int | None = Field(default=None, ge=1, le=MOST, description="default: the training batch size")
