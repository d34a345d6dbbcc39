"""How many updates reach the stored weights, and how many rounding or clipping annihilates."""

from __future__ import annotations

import math

from qbench.probes import formulas
from qbench.probes.base import Probe, Quantity, Values, WeightStep


class Updates(Probe):
    """Of a layer's weights in the observed step.

    wanted: the share that the update rule would change without rounding and clipping. effective: of those, the share
    whose stored value changes; the rest was rounded or clipped away. NaN where no change was wanted.
    """

    quantities = (
        Quantity("wanted", "weights that the update wants to change", "share", 0.0, 1.0),
        Quantity("effective", "wanted changes that reach the stored weight", "share", 0.0, 1.0),
    )

    def step(self, step: WeightStep) -> Values:
        """Both shares."""
        if not bool(step.wanted.isfinite().all()):
            return {quantity.name: math.nan for quantity in self.quantities}
        wanted = step.wanted != 0
        return {"wanted": formulas.share(wanted), "effective": formulas.share(~step.stays[wanted])}


def updates() -> Updates:
    """Share of weights that the update wants to change, and of those the share that does change."""
    return Updates()
