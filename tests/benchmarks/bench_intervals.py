"""The middle of repeated measurements, and how well it is known."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binom


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """The distribution-free 95 % interval of the median: the order statistics that a sign test does not reject."""
    outside = max(int(binom.ppf(0.025, len(values), 0.5)) - 1, 0)
    ranked = sorted(values)
    return ranked[outside], ranked[len(values) - 1 - outside]
