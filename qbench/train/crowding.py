"""Whether other processes took the CPUs from something that was timed."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

import psutil

from qbench.environment import num_cores

SHORTEST_S = 0.2
"""The system counts in hundredths of a second."""

_WORK = ("user", "nice", "system", "irq", "softirq", "steal")
"""What a CPU is counted busy with; the last is the work of other systems on the same hardware."""


@dataclass(frozen=True)
class Reading:
    """Seconds: of the clock, of work on the CPUs this process may use (NaN where the system hides it), and of its own
    work."""

    clock: float
    all_work: float
    own_work: float

    @classmethod
    def now(cls) -> Reading:
        """Taken at this moment."""
        return cls(time.perf_counter(), _all_work(), time.process_time())


def share_taken(since: Reading, until: Reading, num_threads: int, cores: int | None = None) -> float | None:
    """The share of their CPUs that ``num_threads`` computing threads lacked between two readings, because other
    processes were at work there: max(0, others + num_threads - cores) / num_threads, at most 1.

    others: CPUs that other processes kept busy, on average. cores: that this process may use (None: as the system
    says); what its threads leave free is anybody's. None for less than SHORTEST_S seconds, and where the system does
    not tell.
    """
    seconds = until.clock - since.clock
    if seconds < SHORTEST_S or math.isnan(since.all_work + until.all_work):
        return None
    own = until.own_work - since.own_work
    others = max(0.0, until.all_work - since.all_work - own) / seconds
    lacking = others + num_threads - (num_cores() if cores is None else cores)
    return min(1.0, max(0.0, lacking / num_threads))


def _all_work() -> float:
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        cpus = psutil.cpu_times(percpu=True)
    except OSError:
        return math.nan
    mine = [times for number, times in enumerate(cpus) if usable is None or number in usable]
    return sum(getattr(times, kind, 0.0) for times in mine for kind in _WORK)
