"""Evaluation of a model on a split: mean loss, top-1 and top-5 in percent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable

TOP = 5


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy in nats, without label smoothing. top1, top5: percent; top5 is None where there
    are no more than five classes, since it could only be 100."""

    items: int
    loss: float
    top1: float
    top5: float | None


def tally(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int, device: torch.device) -> Evaluation:
    """The figures of all ``batches`` of (logits [N, num_classes] float, labels [N] int64), one item at least; reads
    from the device only once, at the end."""
    items = 0
    loss = torch.zeros((), dtype=torch.float64, device=device)
    hits = torch.zeros(2, dtype=torch.int64, device=device)  # of the first, and of the first five
    for logits, labels in batches:
        right = logits.topk(min(TOP, num_classes), dim=1).indices == labels[:, None]
        hits += torch.stack((right[:, 0].sum(), right.sum()))
        loss += functional.cross_entropy(logits.float(), labels, reduction="sum")
        items += len(labels)
    top1, top5 = (100 * count / items for count in hits.tolist())
    return Evaluation(items, loss.item() / items, top1, top5 if num_classes > TOP else None)
