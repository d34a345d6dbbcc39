"""How many updates reach the stored weights (the effective updates), and how many rounding or clipping undoes."""

from __future__ import annotations

import math

from qbench.probes import formulas
from qbench.probes.base import Probe, Quantity, Values, WeightStep


class Updates(Probe):
    """Of a layer's weights in the observed step.

    wanted: the share that the update rule would change without rounding and clipping. undone: of those, the share
    whose stored value stays as it was, because the change was rounded or clipped away; NaN where none was wanted.
    effective = 1 - undone.
    """

    quantities = (
        Quantity("wanted", "weights that the update wants to change", "share", 0.0, 1.0),
        Quantity("undone", "wanted updates that rounding undoes", "share", 0.0, 1.0),
        Quantity("effective", "wanted updates that reach the weight", "share", 0.0, 1.0),
    )

    def step(self, step: WeightStep) -> Values:
        """The three shares."""
        if not bool(step.wanted.isfinite().all()):
            return {quantity.name: math.nan for quantity in self.quantities}
        wanted = step.wanted != 0
        undone = formulas.share(step.stays[wanted])
        return {"wanted": formulas.share(wanted), "undone": undone, "effective": 1 - undone}


def updates() -> Updates:
    """Share of weights that the update wants to change, and what becomes of these changes."""
    return Updates()
