"""Range batch norm on codes on a GPU: the reference's operations on a few numbers per channel, no synchronisation."""

from __future__ import annotations

from qbench.kernels.reference.range_norm import range_gradient_line, range_line

__all__ = ["range_gradient_line", "range_line"]
