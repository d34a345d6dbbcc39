"""Reference of the blocks: their parts, one after another."""

from __future__ import annotations

from qbench.kernels import composed
from qbench.kernels.reference import encode, passes, pooling
from qbench.kernels.reference import range_norm as lines

encode_ranged, round_scaled, range_norm, range_norm_gradient_, encode_error, encode_error_pair = composed.bound(
    encode, passes, lines, pooling
)
