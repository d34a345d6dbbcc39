"""Which backward pass is under way."""

from __future__ import annotations

from collections.abc import Callable

import torch

_graph_task: Callable[[], int] | None = getattr(torch._C, "_current_graph_task_id", None)
"""PyTorch has no public question for it."""

IS_TOLD = _graph_task is not None
"""Whether :func:`backward_pass` can tell."""

OUTSIDE = -1


def backward_pass() -> int:
    """The number of the backward pass under way; ``OUTSIDE`` where there is none, or none that can be told."""
    return OUTSIDE if _graph_task is None else _graph_task()
