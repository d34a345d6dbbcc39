"""Cosine and angle between what training uses and what is exact (Banner et al. 2018, section 4 and figure 2)."""

from __future__ import annotations

from qbench.probes import formulas
from qbench.probes.base import Pair, Probe, Quantity, Values


class Cosine(Probe):
    """cosine = <q, x> / (|q| |x|) and its angle in degrees; see :class:`~qbench.probes.base.Pair` for q and x."""

    quantities = (
        Quantity("cosine", "cosine of used and exact tensor", high=1.0),
        Quantity("angle", "angle between used and exact tensor", "degrees", low=0.0),
    )

    def pair(self, pair: Pair) -> Values:
        """Both figures of every pair."""
        return {
            "cosine": formulas.cosine(pair.value, pair.exact),
            "angle": formulas.angle(pair.value, pair.exact),
        }


def cosine() -> Cosine:
    """Cosine and angle between the used and the exact tensor of every data path."""
    return Cosine()
