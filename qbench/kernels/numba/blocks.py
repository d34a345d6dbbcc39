"""Blocks with numba's loops where there are some, else the reference's."""

from __future__ import annotations

from qbench.kernels import composed
from qbench.kernels.numba import encode as loops
from qbench.kernels.reference import encode, passes, pooling
from qbench.kernels.reference import range_norm as lines

encode_ranged, round_scaled, range_norm, range_norm_gradient_, encode_error, encode_error_pair = composed.bound(
    encode, passes, lines, pooling, loops
)
