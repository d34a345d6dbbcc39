"""Grids of the kernels that reduce the rows of a [rows, channels] tensor (columns.cuh)."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.cuda.launch import THREADS, current_driver

WARP = 32
QUAD = 4
BLOCKS_PER_MULTIPROCESSOR = 4
ROWS_PER_THREAD = 8
"""At least, so that the reduction at a block's end stays small beside its loop."""

MOST_ROWS_PER_THREAD = 2**16
"""A thread counts its rows in 16 bits and adds up products of two codes in 32."""


def column_width(channels: int, *tensors: Tensor | None) -> int:
    """Channels per thread: four where groups of four are aligned in the memory of all ``tensors``."""
    is_aligned = all(x is None or x.data_ptr() % (QUAD * x.element_size()) == 0 for x in tensors)
    return QUAD if channels % QUAD == 0 and is_aligned else 1


def column_grid(rows: int, channels: int, width: int, device: torch.device, *, layers: int = 1) -> tuple[int, int, int]:
    """Parts of the rows, tiles of the channels, layers. Every part but the last ones has rows.

    width: channels per thread.
    """
    groups = channels // width
    neighbours = min(groups, WARP)
    tiles, rows_at_a_time = -(-groups // neighbours), THREADS // neighbours
    least, most = (-(-rows // (rows_at_a_time * each)) for each in (MOST_ROWS_PER_THREAD, ROWS_PER_THREAD))
    wanted = BLOCKS_PER_MULTIPROCESSOR * current_driver().multiprocessors(device) // (tiles * layers)
    return max(1, least, min(most, wanted)), tiles, layers
