"""The float32 baseline every method is compared with."""

from __future__ import annotations

from qbench import Recipe, method


@method("fp32", null={})
def fp32() -> Recipe:
    """Plain float32 training: the baseline."""
    return Recipe()
