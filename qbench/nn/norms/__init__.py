"""Normalisations that can replace a model's batch norm, one per file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from qbench.nn.norms.base import BatchStatistics, FloatNorm
from qbench.nn.norms.direct import DirectBatchNorm
from qbench.nn.norms.level import LevelBatchNorm
from qbench.nn.norms.range import RangeBatchNorm
from qbench.nn.site import Clock
from qbench.recipe import BatchNorm, DirectNorm, LevelNorm, Norm, RangeNorm

__all__ = ["NORMS", "BatchStatistics", "build_norm"]

NORMS: dict[type[Norm], Callable[[FloatNorm, Any, str, Clock], nn.Module]] = {
    RangeNorm: RangeBatchNorm,
    DirectNorm: DirectBatchNorm,
    LevelNorm: LevelBatchNorm,
}


def build_norm(norm: FloatNorm, spec: Norm, name: str, clock: Clock) -> nn.Module:
    """The module for ``spec`` in place of the float batch norm ``norm``, which is kept where the recipe keeps it."""
    if isinstance(spec, BatchNorm) or (isinstance(spec, LevelNorm) and spec.levels is None):
        return norm
    return NORMS[type(spec)](norm, spec, name, clock)
