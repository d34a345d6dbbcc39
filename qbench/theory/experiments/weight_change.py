"""Binary weights changed in training, from their first value and from epoch to epoch (Li et al. 2017, section on
exploration and exploitation): BinaryConnect, SR, SR with a large batch, R.

BinaryConnect changes few weights and levels off. SR goes on towards the level of random signs; a large batch makes it
change fewer. R never changes any: Adam's steps are far below half the spacing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from qbench.cell import Cell
from qbench.options import PositiveInt
from qbench.theory.findings import (
    Answer,
    Estimate,
    Findings,
    Panel,
    Picture,
    Series,
    beside,
    bounded,
    equals,
    estimate,
)
from qbench.theory.networks import adam, binary_codes, cell, epochs
from qbench.theory.progress import Progress
from qbench.train.settings import ScheduleSettings

RULES = {"binaryconnect": "BC", "sr": "SR", "big": "SR, large batch", "r": "R"}
_METHOD = {"binaryconnect": "binaryconnect", "sr": "sr", "big": "sr", "r": "r"}

STUCK = "Adam's steps, at most lr (1 - beta1) / sqrt(1 - beta2) = 3.2 lr, are below half the spacing, 1"
FEWER = "Li et al. 2017: BinaryConnect changes fewer weights than SR"
LARGE = "Li et al. 2017: a large batch makes SR change fewer weights"
RANDOM = "signs that are redrawn at random agree with the first ones half of the time"
EXPLORES = "Li et al. 2017: SR goes on exploring where BinaryConnect settles"


@dataclass
class Changes:
    """Shares of binary weights, epoch by epoch: changed from the first value, and from the epoch before."""

    from_first: list[float] = field(default_factory=list)
    from_last: list[float] = field(default_factory=list)
    accuracy: float = float("nan")
    _first: Tensor | None = None
    _last: Tensor | None = None

    def growth(self) -> float:
        """By how much the share changed from the first value grows in the second quarter of training, the last one
        before the learning rate falls."""
        count = len(self.from_first)
        return self.from_first[count // 2 - 1] - self.from_first[count // 4 - 1]

    def take(self, layers: Mapping[str, Tensor]) -> None:
        """Compare all layers' codes with earlier ones; the first call gives the values to compare with."""
        codes = torch.cat([layer.flatten() for layer in layers.values()])
        if self._first is not None and self._last is not None:
            self.from_first.append(float((codes != self._first).double().mean()))
            self.from_last.append(float((codes != self._last).double().mean()))
        else:
            self._first = codes
        self._last = codes


def weight_change(
    *,
    seed: int,
    progress: Progress,
    model: str = "mlp",
    dataset: str = "digits",
    training_epochs: Annotated[int, Ge(8)] = 40,
    batch_size: PositiveInt = 16,
    large_batch_size: PositiveInt = 128,
    lr: Annotated[float, Gt(0), Lt(0.3)] = 0.01,
    seeds: Annotated[int, Ge(2)] = 2,
) -> Findings:
    """Share of binary weights changed in training by BinaryConnect, SR, SR with a large batch, and R.

    model, dataset: trained with Adam at lr, divided by ten after a half and after three quarters of training_epochs;
    first and last layer stay float. batch_size: of all but SR with a large batch, which has large_batch_size. seeds:
    runs of each rule, which give the standard errors.
    """
    runs: dict[str, list[Changes]] = {rule: [] for rule in RULES}
    total = len(RULES) * seeds * training_epochs
    done = 0
    for rule in RULES:
        batch = large_batch_size if rule == "big" else batch_size
        for index in range(seeds):
            runs[rule].append(Changes())
            for run in epochs(_cell(rule, model, dataset, training_epochs, batch, lr, seed + index)):
                runs[rule][-1].take(binary_codes(run))
                progress(done / total)
                done += run.epoch > 0
            runs[rule][-1].accuracy = run.accuracy()
    text = f"{model} on {dataset}, batch {batch_size}, {training_epochs} epochs"
    return Findings(
        answers=tuple(_answers(runs, text, large_batch_size)), pictures=(_picture(runs, f"{model} on {dataset}"),)
    )


def _cell(rule: str, model: str, dataset: str, training_epochs: int, batch: int, lr: float, seed: int) -> Cell:
    options: dict[str, object] = {"first_layer": "float", "last_layer": "float"}
    if rule == "binaryconnect":
        options["scale"] = "none"  # Li et al. compare the rules at one learning rate
    else:
        options["grid"] = "binary"
    schedule = ScheduleSettings(name="step", milestones=(0.5, 0.75), factor=0.1)
    train = adam(training_epochs, batch, lr, schedule=schedule)
    return cell(_METHOD[rule], options, model=model, dataset=dataset, train=train, seed=seed)


def _answers(runs: Mapping[str, Sequence[Changes]], text: str, large_batch: int) -> Iterator[Answer]:
    sr, bc, big = ([run.from_first[-1] for run in runs[rule]] for rule in ("sr", "binaryconnect", "big"))
    ever = max(max(run.from_first) for run in runs["r"])
    yield equals("R: weights changed", text, Estimate(ever), 0.0, STUCK)
    yield bounded("SR: weights changed", text, estimate(sr), "at most", 0.5, RANDOM)
    # The rules share seeds: initial weights, batches and their order.
    less = estimate([a - b for a, b in zip(sr, bc, strict=True)])
    yield bounded("weights changed, SR less BC", text, less, "at least", 0.0, FEWER)
    less = estimate([a - b for a, b in zip(sr, big, strict=True)])
    yield bounded(f"weights changed, SR less SR with batch {large_batch}", text, less, "at least", 0.0, LARGE)
    pairs = zip(runs["sr"], runs["binaryconnect"], strict=True)
    growth = estimate([a.growth() - b.growth() for a, b in pairs])
    yield bounded("growth in the second quarter, SR less BC", text, growth, "at least", 0.0, EXPLORES)
    for rule, found in runs.items():
        accuracy = estimate([run.accuracy for run in found])
        yield beside(f"{RULES[rule]}: test accuracy (%)", text, accuracy, None, "no known answer")


def _picture(runs: Mapping[str, Sequence[Changes]], where: str) -> Picture:
    first = tuple(_series(rule, [run.from_first for run in found]) for rule, found in runs.items())
    last = tuple(_series(rule, [run.from_last for run in found]) for rule, found in runs.items())
    return Picture(
        name="weight-change",
        title=f"{where}: binary weights changed in training",
        note="means over seeds, bands: ± half their range; the learning rate falls after a half and three quarters",
        columns=2,
        panels=(
            Panel(
                title="from the first value", x_label="epoch", y_label="share of weights", series=first,
                level=(0.5, "random signs"),
            ),
            Panel(title="from the epoch before", x_label="epoch", y_label="share of weights", series=last),
        ),
    )  # fmt: skip


def _series(rule: str, runs: Sequence[Sequence[float]]) -> Series:
    columns = list(zip(*runs, strict=True))
    return Series(
        label=RULES[rule],
        role=rule,
        x=tuple(range(1, len(columns) + 1)),
        y=tuple(sum(column) / len(column) for column in columns),
        error=tuple((max(column) - min(column)) / 2 for column in columns),
    )
