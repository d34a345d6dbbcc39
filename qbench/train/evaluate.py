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


class Tally:
    """Adds up batches of logits; reads from the device only once, at the end."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._num_classes = num_classes
        self._items = 0
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._hits = torch.zeros(2, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count a batch: logits [N, num_classes] float, labels [N] int64."""
        ranked = logits.topk(min(TOP, self._num_classes), dim=1).indices
        hits = ranked == labels[:, None]
        self._hits += torch.stack((hits[:, 0].sum(), hits.sum()))
        self._loss += functional.cross_entropy(logits.float(), labels, reduction="sum")
        self._items += len(labels)

    def result(self) -> Evaluation:
        """The figures of everything counted so far; at least one item must have been."""
        top1, top5 = (100 * hits / self._items for hits in self._hits.tolist())
        loss = self._loss.item() / self._items
        return Evaluation(self._items, loss, top1, top5 if self._num_classes > TOP else None)


def tally(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int, device: torch.device) -> Evaluation:
    """The figures of all ``batches`` of (logits, labels)."""
    total = Tally(num_classes, device)
    for logits, labels in batches:
        total.add(logits, labels)
    return total.result()
