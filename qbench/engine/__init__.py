"""Many cells: local processes."""

from qbench.engine.device import Allotment, allot, check_device
from qbench.engine.events import (
    CellFinished,
    CellProgress,
    CellStarted,
    Event,
    Failure,
    Notice,
    Observer,
    Preparing,
    RoundFinished,
    RoundStarted,
    RunFinished,
    RunStarted,
    RunSummary,
    Silent,
)
from qbench.engine.run import plan_suite, run_suite

__all__ = [
    "Allotment",
    "CellFinished",
    "CellProgress",
    "CellStarted",
    "Event",
    "Failure",
    "Notice",
    "Observer",
    "Preparing",
    "RoundFinished",
    "RoundStarted",
    "RunFinished",
    "RunStarted",
    "RunSummary",
    "Silent",
    "allot",
    "check_device",
    "plan_suite",
    "run_suite",
]
