"""Grids of the kernels that reduce the rows of a [rows, channels] tensor (columns.cuh)."""

from __future__ import annotations

import torch

from qbench.kernels.cuda.launch import THREADS, current_driver

WARP = 32
QUAD = 4
BLOCKS_PER_MULTIPROCESSOR = 4
ROWS_PER_THREAD = 8
"""At least, so that the reduction at a block's end stays small beside its loop."""


def column_width(channels: int) -> int:
    """Channels per thread: four where they stay aligned to groups of four elements."""
    return QUAD if channels % QUAD == 0 else 1


def column_grid(rows: int, channels: int, device: torch.device, *, layers: int = 1) -> tuple[int, int, int]:
    """Parts of the rows, tiles of the channels, layers. Every part but the last ones has rows."""
    groups = channels // column_width(channels)
    width = min(groups, WARP)
    tiles = -(-groups // width)
    most = -(-rows // (THREADS // width * ROWS_PER_THREAD))
    wanted = BLOCKS_PER_MULTIPROCESSOR * current_driver().multiprocessors(device) // (tiles * layers)
    return max(1, min(most, wanted)), tiles, layers
