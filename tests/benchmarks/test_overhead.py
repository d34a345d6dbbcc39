"""What the harness costs: a training epoch inside qbench against the same loop in bare PyTorch.

The bare loop is what a good engineer would write for this one job: the whole data set as one normalised and padded
tensor, crops by index, the same model, memory format, optimiser and schedule, the loss read at every step. It uses
nothing of qbench but the model and the data. The harness replays no steps here, which would make up for what it costs.
Epochs of the two alternate, so that what slows the machine slows both, and the ratio is taken pair by pair.
"""

from __future__ import annotations

import math
import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from bench_intervals import median_interval
from torch_settings import threads

from qbench.cell import Cell
from qbench.data import load_dataset
from qbench.models import build_model
from qbench.train import build_cell, replay
from qbench.train.loop import Training
from qbench.train.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

TARGET = 1.03
PAIRS = 30
SETTINGS = TrainSettings(epochs=2 * PAIRS, batch_size=64)
PAD = 1


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads(1):  # a second one waits for whatever else the machine does
        yield


def harness_epoch() -> Callable[[int], float]:
    """Trains one epoch of fp32 the way every cell is trained."""
    cell = Cell(
        suite="overhead",
        method="fp32",
        label="fp32",
        options={},
        model="resnet8",
        dataset="digits",
        seed=0,
        arithmetic="simulated",
        device="cpu",
        train=SETTINGS,
    )
    return Training(build_cell(cell), lambda _: None).train_epoch


class BareLoop:
    """The same training without a harness."""

    def __init__(self) -> None:
        data = load_dataset("digits")
        torch.manual_seed(0)
        self.model = build_model("resnet8", num_classes=10, in_channels=1, image_size=8)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings = SETTINGS.optimizer
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=settings.lr, momentum=settings.momentum, fused=True
        )
        images, self.labels = data.train.batch(np.arange(len(data.train)), None)
        black = images.min().item()
        padded = torch.nn.functional.pad(images, (PAD,) * 4, value=black)
        self.crops = padded.unfold(2, 8, 1).unfold(3, 8, 1)
        self.steps = len(images) // SETTINGS.batch_size
        self.total_steps = SETTINGS.epochs * self.steps

    def epoch(self, epoch: int) -> float:
        """Mean loss of one epoch."""
        order = torch.randperm(len(self.labels))
        total = 0.0
        for step in range(self.steps):
            chosen = order[step * SETTINGS.batch_size : (step + 1) * SETTINGS.batch_size]
            row, column = torch.randint(0, 2 * PAD + 1, (2, len(chosen)))
            images = self.crops[chosen, :, row, column].contiguous(memory_format=torch.channels_last)
            progress = (epoch * self.steps + step) / self.total_steps
            for group in self.optimizer.param_groups:
                group["lr"] = SETTINGS.optimizer.lr * (1 + math.cos(math.pi * progress)) / 2
            loss = torch.nn.functional.cross_entropy(self.model(images), self.labels[chosen])
            total += loss.item()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return total / self.steps


@pytest.mark.benchmark_suite
def test_harness_overhead(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the harness surely costs more than 3 %: the whole 95 % interval of the median ratio is above."""
    monkeypatch.setenv(replay.VARIABLE, "off")
    harness, bare = harness_epoch(), BareLoop().epoch
    harness(0), bare(0)
    ratios: list[float] = []

    def one_pair() -> None:
        epoch = len(ratios) + 1
        first, second = (harness, bare) if epoch % 2 else (bare, harness)
        seconds = {run: _seconds(run, epoch) for run in (first, second)}
        ratios.append(seconds[harness] / seconds[bare])

    benchmark.pedantic(one_pair, rounds=PAIRS)
    low, high = median_interval(ratios)
    benchmark.extra_info.update(median_ratio=median(ratios), interval_95=[low, high], target=TARGET)
    with capsys.disabled():
        print(
            f"\nqbench epoch / bare epoch: median of {PAIRS} pairs {median(ratios):.3f}, "
            f"95 % interval {low:.3f} to {high:.3f}, target at most {TARGET}"
        )
    if len(ratios) == PAIRS:  # with --benchmark-disable one pair only shows that both loops run
        assert low <= TARGET


def _seconds(run: Callable[[int], float], epoch: int) -> float:
    started = time.perf_counter()
    run(epoch)
    return time.perf_counter() - started
