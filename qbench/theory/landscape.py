"""The one-dimensional objective of Li et al. 2017 (arXiv:1706.02379), figure with three valleys; as reconstructed here:
the paper's own text of it was not at hand, but this form is continuous.

    f(w) = w^2 + 2                  w < 1          (local minimum at 0)
           (w - 2.5)^2 + 0.75       1 <= w < 3.5   (local minimum at 2.5)
           (w - 4.75)^2 + 0.19      w >= 3.5       (global minimum at 4.75)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

SPACING = 0.5
BEST = (4.5, 5.0)
"""The grid points next to the global minimum."""

_JOINTS = (1.0, 3.5)
_CENTRES = (0.0, 2.5, 4.75)
_FLOORS = (2.0, 0.75, 0.19)


def objective(w: Array) -> Array:
    """f(w)."""
    valley = np.digitize(w, _JOINTS)
    return np.asarray((w - np.take(_CENTRES, valley)) ** 2 + np.take(_FLOORS, valley))


def slope(w: Array) -> Array:
    """f'(w); at a joint that of the valley to the right."""
    return np.asarray(2 * (w - np.take(_CENTRES, np.digitize(w, _JOINTS))))


class Landscape:
    """f and its derivative for tensors (float32)."""

    def __init__(self) -> None:
        self._joints = torch.tensor(_JOINTS)
        self._centres = torch.tensor(_CENTRES)
        self._floors = torch.tensor(_FLOORS)

    def slope(self, w: Tensor) -> Tensor:
        """f'(w)."""
        return 2 * (w - self._centres[self._valley(w)])

    def objective(self, w: Tensor) -> Tensor:
        """f(w)."""
        valley = self._valley(w)
        return (w - self._centres[valley]).square() + self._floors[valley]

    def _valley(self, w: Tensor) -> Tensor:
        return torch.bucketize(w, self._joints, right=True)
