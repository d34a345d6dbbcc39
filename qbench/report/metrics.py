"""The quantities of the tables: each defines its unit, its direction and how it is written.

A new column is one more :class:`Metric`; aggregation, every renderer and the legend follow from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from qbench.report import text

if TYPE_CHECKING:
    from collections.abc import Callable

    from qbench.cell import Measurement

Direction = Literal["higher", "lower"]
Spread = Literal["sd", "half_width", "half_range"]

OVER_BASELINE = text.TIMES + " {baseline}"


@dataclass(frozen=True)
class Metric:
    """One column of the method table.

    name: stable identifier in CSV and JSON. title, unit: the heading; ``{baseline}`` stands for the baseline's name.
    better: which direction is better, part of the definition and never guessed from the name.
    spread: what the second number is: ``sd`` sample standard deviation over seeds, ``half_width`` of the t-interval of
    paired differences, ``half_range`` half the range over rounds.
    of_round: for speed and memory, the value of one round, or None where it was not measured.
    relative: divide round i of the method by round i of the baseline before taking the median.
    shown, shows_spread: whether the column, and its second number, stand in text tables; CSV and JSON have all.
    writes_unit: the written value carries its unit (``311 KiB``), so the heading need not.
    in_legend: whether the description stands below text tables.
    """

    name: str
    title: str
    unit: str
    better: Direction
    spread: Spread
    description: str
    write: Callable[[float], str]
    of_round: Callable[[Measurement], float | None] | None = None
    relative: bool = False
    shown: bool = True
    shows_spread: bool = False
    writes_unit: bool = False
    in_legend: bool = False

    def written(self, value: float, spread: float | None) -> str:
        """``98.52 ± 0.21``: the spread with as many decimals as the value; the value alone where there is none."""
        first = self.write(value)
        if spread is None or not self.shows_spread:
            return first
        if "e" in first:  # 3.00e-07
            return f"{first} {text.PLUS_MINUS} {spread:.1e}"
        return f"{first} {text.PLUS_MINUS} {spread:,.{len(first.partition('.')[2])}f}"

    @property
    def is_cost(self) -> bool:
        """Whether the quantity is speed or memory, which a simulation cannot claim."""
        return self.of_round is not None

    @property
    def is_of_session(self) -> bool:
        """Whether it follows the machine's own pace, so that only figures of one session are compared as they are."""
        return self.is_cost and self.shows_spread and not self.relative


def train_images_per_s(measurement: Measurement) -> float | None:
    """Training images per second of one round, from its median step."""
    return _images_per_s(measurement.batch_size, measurement.train_step_s)


def infer_images_per_s(measurement: Measurement) -> float | None:
    """Inference images per second of one round, from its median batch."""
    return _images_per_s(measurement.batch_size, measurement.infer_step_s)


def _images_per_s(batch_size: int, steps: tuple[float, ...]) -> float | None:
    return _finite(batch_size / median(steps)) if steps and median(steps) > 0 else None


def energy_j_per_image(measurement: Measurement) -> float | None:
    """Energy per training image of one round."""
    return _finite(measurement.energy_j_per_image)


def _finite(value: float | None) -> float | None:
    """None for what is no number: a record may have come from elsewhere, and JSON and axes refuse the rest."""
    return value if value is not None and math.isfinite(value) else None


def _field(name: str) -> Callable[[Measurement], float | None]:
    return lambda measurement: getattr(measurement, name)


TOP1 = Metric(
    "top1", "top-1", "%", "higher", "sd",
    "test accuracy at the last epoch, mean ± sample standard deviation over seeds",
    text.percent, shows_spread=True, in_legend=True,
)  # fmt: skip
DIFFERENCE = Metric(
    "top1_difference", "Δ {baseline}", "points", "higher", "half_width",
    "mean of the same-seed differences to {baseline} ± half-width of their {confidence} t-interval",
    text.signed, shows_spread=True, in_legend=True,
)  # fmt: skip
TRAIN_SPEED = Metric(
    "train_images_per_s", "training", "images/s", "higher", "half_range", "median over rounds ± half their range",
    text.speed, train_images_per_s, shows_spread=True,
)  # fmt: skip
TRAIN_RATIO = Metric(
    "train_speed_ratio", "training", OVER_BASELINE, "higher", "half_range",
    "training speed over {baseline}'s, round by round", text.ratio, train_images_per_s, relative=True,
    shows_spread=True,
)  # fmt: skip
INFER_SPEED = Metric(
    "infer_images_per_s", "inference", "images/s", "higher", "half_range", "median over rounds ± half their range",
    text.speed, infer_images_per_s, shows_spread=True,
)  # fmt: skip
INFER_RATIO = Metric(
    "infer_speed_ratio", "inference", OVER_BASELINE, "higher", "half_range",
    "inference speed over {baseline}'s, round by round", text.ratio, infer_images_per_s, relative=True,
    shows_spread=True,
)  # fmt: skip
PEAK_BYTES = Metric(
    "peak_train_bytes", "peak memory", "bytes", "lower", "half_range", "largest live tensor storage in a training step",
    text.memory, _field("peak_train_bytes"), shown=False, writes_unit=True,
)  # fmt: skip
PEAK_RATIO = Metric(
    "peak_train_ratio", "peak memory", OVER_BASELINE, "lower", "half_range",
    "largest live tensor storage in a training step, over {baseline}'s", text.ratio, _field("peak_train_bytes"),
    relative=True, in_legend=True,
)  # fmt: skip
SAVED_BYTES = Metric(
    "saved_bytes", "saved", "bytes", "lower", "half_range", "bytes kept for the backward pass",
    text.memory, _field("saved_bytes"), shown=False, writes_unit=True,
)  # fmt: skip
SAVED_RATIO = Metric(
    "saved_ratio", "saved", OVER_BASELINE, "lower", "half_range",
    "bytes kept for the backward pass, over {baseline}'s", text.ratio, _field("saved_bytes"),
    relative=True, in_legend=True,
)  # fmt: skip
MODEL_BYTES = Metric(
    "model_bytes", "model", "bytes", "lower", "half_range", "inference checkpoint in the method's own storage format",
    text.memory, _field("model_bytes"), writes_unit=True,
)  # fmt: skip
OPTIMIZER_BYTES = Metric(
    "optimizer_bytes", "optimizer", "bytes", "lower", "half_range",
    "training state beside the model, in the method's own storage format",
    text.memory, _field("optimizer_bytes"), writes_unit=True,
)  # fmt: skip
ENERGY = Metric(
    "energy_j_per_image", "energy", "J/image", "lower", "half_range", "per training image, median over rounds",
    text.energy, energy_j_per_image, shows_spread=True,
)  # fmt: skip

METRICS: tuple[Metric, ...] = (
    TOP1, DIFFERENCE, TRAIN_SPEED, TRAIN_RATIO, INFER_SPEED, INFER_RATIO, PEAK_BYTES, PEAK_RATIO, SAVED_BYTES,
    SAVED_RATIO, MODEL_BYTES, OPTIMIZER_BYTES, ENERGY,
)  # fmt: skip
COST_METRICS = tuple(metric for metric in METRICS if metric.is_cost)
