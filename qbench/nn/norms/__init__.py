"""Normalisations that can replace a model's batch norm, one per file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from qbench.errors import InputError
from qbench.nn.clock import Clock
from qbench.nn.norms.base import BatchStatistics, FloatNorm
from qbench.nn.norms.batch_renorm import RenormBatchNorm
from qbench.nn.norms.direct import DirectBatchNorm
from qbench.nn.norms.layer_scale import LayerScaling, layer_scale
from qbench.nn.norms.level import LevelBatchNorm
from qbench.nn.norms.range import RangeBatchNorm
from qbench.recipe import BatchRenorm, DirectNorm, LayerScale, LevelNorm, Norm, RangeNorm

__all__ = ["NORMS", "BatchStatistics", "build_norm"]

NORMS: dict[type[Norm], Callable[[FloatNorm, Any, str, Clock], nn.Module]] = {
    RangeNorm: RangeBatchNorm,
    DirectNorm: DirectBatchNorm,
    LevelNorm: LevelBatchNorm,
    BatchRenorm: RenormBatchNorm,
}


def build_norm(norm: FloatNorm, spec: Norm, name: str, clock: Clock, weight: Tensor | None = None) -> nn.Module:
    """The module for ``spec`` in place of the float batch norm ``norm``, which is kept where the recipe keeps it.

    weight: of the layer in front of the norm; None where there is none. Raises InputError for a layer scale there, for
    another norm, for one without the parameters or statistics that the recipe's would take over, and for a ``spec`` of
    no class known here.
    """
    if not spec.replaces:
        return norm
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d):  # a subclass may compute something else
        raise InputError(
            f"{name} is {type(norm).__name__}; the method's norm takes the place of nn.BatchNorm1d or 2d only"
        )
    if isinstance(spec, LayerScale):
        if weight is None:
            raise InputError(
                f"a layer scale follows from the layer in front of a norm, and none is known before {name}; "
                "make them one qbench.nn.ConvNormAct or LinearNormAct"
            )
        return LayerScaling(layer_scale(weight, spec))
    if type(spec) not in NORMS:
        raise InputError(
            f"the recipe's norm is {type(spec).__name__}, which qbench has no module for: take one of its own norms, "
            "or replace them in the recipe's transform"
        )
    if not (norm.affine and norm.track_running_stats):
        raise InputError(f"{name} needs affine=True and track_running_stats=True to be replaced by the method's norm")
    return NORMS[type(spec)](norm, spec, name, clock)
