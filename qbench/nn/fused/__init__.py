"""Blocks (layer, norm, residual addition, ReLU) as one or two nodes of the graph, one kind per file.

A node that spans a whole block keeps codes where the modules, one by one, would keep floats for each other. Each kind
belongs to one norm and says which recipes it can follow; for all others the modules are called one after another.
"""

from __future__ import annotations

from qbench.nn.fused.base import BlockParts, FusedBlock
from qbench.nn.fused.bounded import BoundedBlock
from qbench.nn.fused.direct import DirectBlock
from qbench.nn.fused.level import LevelBlock
from qbench.nn.fused.range import RangeBlock

__all__ = ["KINDS", "BlockParts", "FusedBlock", "fused_block"]

KINDS = (BoundedBlock, DirectBlock, LevelBlock, RangeBlock)


def fused_block(parts: BlockParts) -> FusedBlock | None:
    """The block of these modules as nodes of its own; None where no kind can follow the recipe."""
    blocks = (kind.of(parts) for kind in KINDS)
    return next((block for block in blocks if block is not None), None)
