"""Size of the weight gradient against the exact one and against the first epoch's; how quantisers' scales move."""

from __future__ import annotations

import math

from qbench.probes import formulas, grid
from qbench.probes.base import Pair, Probe, Quantity, Values


class Drift(Probe):
    """Of every layer's weight gradient G (path ``loss_gradient``, with X the exact one):

    gradient_norm = |G|, gradient_to_exact = |G| / |X|, gradient_to_first = |G| / |G of the first epoch|. A ratio whose
    denominator is 0 is 1 where both norms are 0, else infinite.

    Of every quantiser whose format has a scale: scale, the step between neighbouring codes in the unit of the tensor
    (the mean over channels, where each has its own), and scale_change = log2(scale / scale one epoch before), in
    octaves; a format's range is its scale times a constant and moves with it.
    """

    quantities = (
        Quantity("gradient_norm", "norm of the weight gradient", low=0.0, drawn=False),
        Quantity("gradient_to_exact", "norm of the weight gradient over the exact one's", "ratio", centre=1.0),
        Quantity("gradient_to_first", "norm of the weight gradient over the first epoch's", "ratio", low=0.0),
        Quantity("scale", "quantiser's step", low=0.0, drawn=False),
        Quantity("scale_change", "change of the quantiser's step since the epoch before", "octaves", centre=0.0),
    )

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._scales: dict[tuple[str, str], float] = {}

    def pair(self, pair: Pair) -> Values:
        """The gradient's figures, or the scale's."""
        if pair.path == "loss_gradient":
            return self._gradient(pair)
        return {} if pair.quantised is None or pair.quantised.scale is None else self._scale(pair)

    def _gradient(self, pair: Pair) -> Values:
        size, exact = (formulas.norm(x) for x in (pair.value, pair.exact))
        first = self._first.setdefault(pair.layer, size)
        return {
            "gradient_norm": size,
            "gradient_to_exact": ratio(size, exact),
            "gradient_to_first": ratio(size, first),
        }

    def _scale(self, pair: Pair) -> Values:
        assert pair.quantised is not None
        place, scale = (pair.layer, pair.path), grid.scale_of(pair.quantised)
        before = self._scales.get(place)
        self._scales[place] = scale
        return {"scale": scale, "scale_change": None if before is None else octaves(scale, before)}


def ratio(a: float, b: float) -> float:
    """a / b of two norms; 1 where both are 0, infinite where only b is, NaN where one is."""
    if b != 0:
        return a / b
    return 1.0 if a == 0 else a * math.inf


def octaves(now: float, before: float) -> float:
    """log2(now / before); NaN where one is not a positive number."""
    return math.log2(now / before) if 0 < now < math.inf and 0 < before < math.inf else math.nan


def drift() -> Drift:
    """Norm of the weight gradient against the exact one's and the first epoch's; change of quantisers' scales."""
    return Drift()
