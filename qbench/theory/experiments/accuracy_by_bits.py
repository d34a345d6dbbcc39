"""Accuracy of 8-bit training when all its widths shrink together, beside the figure of Banner et al. 2018.

Theirs is ResNet-18 on CIFAR-10; this is another network on another data set, so their figures are not known answers.
The shape is: two bits fail, and from six bits on nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from qbench.data import load_dataset
from qbench.options import PositiveInt
from qbench.theory.findings import Answer, Findings, Panel, Picture, Series, beside, bounded, estimate, points
from qbench.theory.networks import accuracy, cell
from qbench.theory.progress import Progress
from qbench.train.settings import OptimizerSettings, ScheduleSettings, TrainSettings

Bits = Annotated[int, Interval(ge=2, le=16)]

PUBLISHED = {
    2: 17.26, 4: 83.13, 6: 89.47, 7: 89.38, 8: 89.04, 9: 88.98, 10: 89.31, 12: 89.37, 14: 89.56, 16: 89.62
}  # fmt: skip
"""Final validation accuracy in percent, read from the vector graphics of figure 2 (left)."""

FIGURE = "Banner et al. 2018, Fig. 2: ResNet-18 on CIFAR-10, another data set"
SHAPE_LOW = "Fig. 2: two bits fail, 17 % against 90 %; here: they lose more than half of the accuracy"
SHAPE_HIGH = "Fig. 2: eight bits lose less than a point; here: no more than two"
_FAILS = 0.5
_LOSS = -2.0


def accuracy_by_bits(
    *,
    seed: int,
    progress: Progress,
    bits: tuple[Bits, ...] = (2, 3, 4, 6, 8),
    model: str = "resnet8",
    dataset: str = "digits",
    training_epochs: PositiveInt = 12,
    batch_size: PositiveInt = 64,
    optimizer: Literal["sgd", "adam"] = "adam",
    lr: Annotated[float, Gt(0)] = 0.01,
    seeds: Annotated[int, Ge(2)] = 2,
) -> Findings:
    """Accuracy of banner8 by its bits, beside float32.

    bits: of weights, activations and layer gradients. model, dataset: trained for training_epochs in batches of
    batch_size, with the optimizer at lr and a cosine schedule. seeds: runs of each width, which share weights and
    batches. A run that diverges counts as guessing.
    """
    widths: list[int | None] = [None, *bits]
    guessing = 100 / load_dataset(dataset).num_classes
    train = TrainSettings(
        epochs=training_epochs,
        batch_size=batch_size,
        optimizer=OptimizerSettings(name=optimizer, lr=lr),
        schedule=ScheduleSettings(name="cosine"),
        eval_every=training_epochs,
    )
    top1: dict[int | None, list[float]] = {width: [] for width in widths}
    runs = [(width, seed + index) for index in range(seeds) for width in widths]
    for number, (width, own_seed) in enumerate(runs):
        method, options = ("fp32", {}) if width is None else ("banner8", {"bits": width, "error_bits": width})
        described = cell(method, options, model=model, dataset=dataset, train=train, seed=own_seed)
        reached = accuracy(described, progress, number / len(runs), (number + 1) / len(runs))
        top1[width].append(guessing if math.isnan(reached) else reached)
    text = f"{model} on {dataset}, {training_epochs} epochs, {seeds} seeds"
    return Findings(answers=tuple(_answers(top1, text)), pictures=(_picture(top1, bits, f"{model} on {dataset}"),))


def _answers(top1: Mapping[int | None, Sequence[float]], text: str) -> list[Answer]:
    answers = [beside("test accuracy (%), float32", text, estimate(top1[None]), PUBLISHED[16], f"{FIGURE}, 16 bits")]
    for width, values in top1.items():
        if width is not None:
            quantity = f"test accuracy (%), {width} bits"
            answers.append(beside(quantity, text, estimate(values), PUBLISHED.get(width), FIGURE))
    if 2 in top1:
        ratio = estimate([b / a for a, b in zip(top1[None], top1[2], strict=True)])
        answers.append(bounded("2 bits over float32", text, ratio, "at most", _FAILS, SHAPE_LOW))
    if 8 in top1:
        gained = estimate([a - b for a, b in zip(top1[8], top1[None], strict=True)])
        answers.append(bounded("8 bits less float32 (points)", text, gained, "at least", _LOSS, SHAPE_HIGH))
    return answers


def _picture(top1: Mapping[int | None, Sequence[float]], bits: Sequence[int], where: str) -> Picture:
    found = [estimate(top1[width]) for width in bits]
    measured = points(f"{where} (measured here)", "banner8", bits, found)
    published = Series(
        label="ResNet-18 on CIFAR-10 (Banner et al. 2018, Fig. 2)", role="known", style="dashed", x=tuple(PUBLISHED),
        y=tuple(PUBLISHED.values()),
    )  # fmt: skip
    panel = Panel(
        x_label="bits of weights, activations and layer gradients",
        y_label="test accuracy [%]",
        series=(measured, published),
        level=(estimate(top1[None]).value, "float32, measured here"),
    )
    return Picture(
        name="accuracy-by-bits",
        title="8-bit training with fewer bits: accuracy",
        note="two data sets: the heights are not comparable, the shapes are; bars: 4 standard errors over seeds",
        columns=1,
        panels=(panel,),
    )
