"""How much of a tensor falls off the ends of its grid, and how much falls to zero."""

from __future__ import annotations

import math

from qbench.probes import formulas, grid
from qbench.probes.base import Pair, Probe, Quantity, Values


class Clipping(Probe):
    """Shares of the elements of every tensor that is quantised.

    clipped: the exact value lies outside the format's values by more than half the outermost step (saturated).
    zero: the quantised value is 0. lost: it is 0 and the exact value is not (underflow).
    """

    quantities = (
        Quantity("clipped", "values clipped at the grid's ends", "share", 0.0),
        Quantity("zero", "values that are zero", "share", 0.0, 1.0),
        Quantity("lost", "values rounded to zero that were not", "share", 0.0),
    )

    def pair(self, pair: Pair) -> Values:
        """The three shares; nothing for a pair that no quantiser made."""
        if pair.quantised is None:
            return {}
        if not formulas.comparable(formulas.flat(pair.value), formulas.flat(pair.exact)):
            return {quantity.name: math.nan for quantity in self.quantities}
        zero = pair.value == 0
        return {
            "clipped": formulas.share(grid.clipped(pair.quantised, pair.exact)),
            "zero": formulas.share(zero),
            "lost": formulas.share(zero & (pair.exact != 0)),
        }


def clipping() -> Clipping:
    """Clip rate, zero rate, and the share of values lost to zero, of every quantised tensor."""
    return Clipping()
