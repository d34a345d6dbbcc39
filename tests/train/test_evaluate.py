"""Evaluation on logits whose ranks and losses are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qbench.train.evaluate import Evaluation, tally

CPU = torch.device("cpu")


def ranked(rank: int, num_classes: int = 10, label: int = 3) -> Tensor:
    """Logits [num_classes] in which ``label`` has the given rank, 1 being the top."""
    order = [c for c in range(num_classes) if c != label]
    order.insert(rank - 1, label)
    logits = torch.empty(num_classes)
    logits[order] = torch.arange(num_classes, 0, -1.0)
    return logits


def test_top1_and_top5_count_ranks() -> None:
    logits = torch.stack([ranked(rank) for rank in (1, 1, 2, 5, 6, 10, 1, 3)])
    figures = tally([(logits, torch.full((8,), 3))], 10, CPU)
    assert (figures.items, figures.top1, figures.top5) == (8, 37.5, 75.0)


def test_batches_of_unequal_size_weigh_by_items() -> None:
    labels = torch.full((3,), 3)
    logits = torch.stack([ranked(1), ranked(7), ranked(7)])
    whole = tally([(logits, labels)], 10, CPU)
    split = tally([(logits[:2], labels[:2]), (logits[2:], labels[2:])], 10, CPU)
    assert whole.top1 == pytest.approx(100 / 3)
    assert split == whole


def test_loss_is_the_mean_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    figures = tally([(logits, torch.tensor([0, 1]))], 2, CPU)
    assert figures.loss == pytest.approx((math.log(2) + math.log(4)) / 2)


@pytest.mark.parametrize(("num_classes", "has_top5"), [(2, False), (5, False), (6, True)])
def test_top5_needs_more_than_five_classes(num_classes: int, has_top5: bool) -> None:
    figures = tally([(torch.eye(num_classes), torch.arange(num_classes))], num_classes, CPU)
    assert figures.top1 == 100
    assert figures.top5 == (100 if has_top5 else None)


def test_half_precision_logits_are_summed_in_float() -> None:
    logits = torch.zeros(4096, 10, dtype=torch.bfloat16)
    figures = tally([(logits, torch.zeros(4096, dtype=torch.int64))], 10, CPU)
    assert figures.loss == pytest.approx(math.log(10), rel=1e-6)  # float32 has 24 bits


def test_nan_logits_give_a_loss_that_is_no_number() -> None:
    figures = tally([(torch.full((1, 10), torch.nan), torch.tensor([1]))], 10, CPU)
    assert isinstance(figures, Evaluation)
    assert math.isnan(figures.loss)
