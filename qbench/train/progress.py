"""Where a running cell stands, told to whoever listens a few times per second at most."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_INTERVAL_S = 0.25


@dataclass(frozen=True)
class Progress:
    """epoch counts from 1; step is the number of optimiser steps done. loss: of the newest training batch whose loss
    was read. top1: percent, of the newest validation."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    top1: float | None


class Reporter:
    """Passes progress on to ``report``, and drops what comes too soon after the last report.

    Making a Progress costs more than the clock, so callers ask :meth:`due` first.
    """

    def __init__(self, report: Callable[[Progress], None], min_interval_s: float = MIN_INTERVAL_S) -> None:
        self._report = report
        self._min_interval_s = min_interval_s
        self._next_s = 0.0

    def due(self) -> bool:
        """Whether enough time has passed since the last report."""
        return time.monotonic() >= self._next_s

    def send(self, progress: Progress) -> None:
        """Report now."""
        self._next_s = time.monotonic() + self._min_interval_s
        self._report(progress)
