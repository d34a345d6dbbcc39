"""All passes over channels-last tensors, under the names of :mod:`qbench.kernels.reference.passes`."""

from qbench.kernels.cuda.levels import (
    encode_normalised_levels,
    level_gradient,
    level_gradient_line,
    level_gradient_sums,
    level_line,
    moments,
    move_average_,
)
from qbench.kernels.cuda.views import (
    affine_view,
    apply_mask,
    chunk_statistics,
    encode_affine_view,
    encode_scaled_view,
    encode_view_gradient_,
    join_gradients,
    level_view,
    rectify,
    view_extremes,
    view_gradient_extremes,
)

__all__ = [
    "affine_view",
    "apply_mask",
    "chunk_statistics",
    "encode_affine_view",
    "encode_normalised_levels",
    "encode_scaled_view",
    "encode_view_gradient_",
    "join_gradients",
    "level_gradient",
    "level_gradient_line",
    "level_gradient_sums",
    "level_line",
    "level_view",
    "moments",
    "move_average_",
    "rectify",
    "view_extremes",
    "view_gradient_extremes",
]
