"""Many cells: local processes.

The names below are loaded when first used: a worker process imports this package, and needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qbench.engine.device import Allotment as Allotment
    from qbench.engine.device import allot as allot
    from qbench.engine.device import check_device as check_device
    from qbench.engine.events import CellFinished as CellFinished
    from qbench.engine.events import CellProgress as CellProgress
    from qbench.engine.events import CellStarted as CellStarted
    from qbench.engine.events import Event as Event
    from qbench.engine.events import Failure as Failure
    from qbench.engine.events import Notice as Notice
    from qbench.engine.events import Observer as Observer
    from qbench.engine.events import Preparing as Preparing
    from qbench.engine.events import RoundFinished as RoundFinished
    from qbench.engine.events import RoundStarted as RoundStarted
    from qbench.engine.events import RunFinished as RunFinished
    from qbench.engine.events import RunStarted as RunStarted
    from qbench.engine.events import RunSummary as RunSummary
    from qbench.engine.events import Silent as Silent
    from qbench.engine.run import plan_suite as plan_suite
    from qbench.engine.run import run_suite as run_suite

_HOME = {
    "qbench.engine.device": ("Allotment", "allot", "check_device"),
    "qbench.engine.events": (
        "CellFinished", "CellProgress", "CellStarted", "Event", "Failure", "Notice", "Observer", "Preparing",
        "RoundFinished", "RoundStarted", "RunFinished", "RunStarted", "RunSummary", "Silent",
    ),
    "qbench.engine.run": ("plan_suite", "run_suite"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'qbench.engine' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
