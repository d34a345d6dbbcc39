"""What decides whether sums of integers are exact in float32."""

from __future__ import annotations

import pytest
import torch

from qbench.nn.simulated import _largest_norm


@pytest.mark.parametrize("count", [5, 1000, 2**22])
def test_a_norm_is_never_too_small(count: int) -> None:
    """Nor far too large where there are few values. In float32 the square of 5,000 takes no more ones."""
    values = torch.ones(count, 4)
    values[0] = 5000.0
    exact = float(values[:, 0].double().square().sum().sqrt())
    found = _largest_norm(values, (0,))
    assert exact <= found
    assert count > 1000 or found < 1.001 * exact
