"""Signal-to-quantisation-noise ratio, and how often a code is not the nearest one."""

from __future__ import annotations

from qbench.probes import formulas
from qbench.probes.base import Pair, Probe, Quantity, Values


class SQNR(Probe):
    """sqnr = 10 log10(|x|^2 / |x - q|^2) and sqnr_scaled, the same with the best factor on q, in dB.

    off_by_0, off_by_1, off_by_more: the shares of codes that lie 0, 1 or at least 2 grid steps from the code that
    rounding to nearest gives; of formats that round stochastically, and of stored weights that an update rounds.
    """

    quantities = (
        Quantity("sqnr", "signal-to-quantisation-noise ratio", "dB"),
        # A function of the angle that the probe ``cosine`` draws.
        Quantity("sqnr_scaled", "signal-to-quantisation-noise ratio at the best scale", "dB", drawn=False),
        Quantity("off_by_0", "codes that are the nearest", "share", 0.0, 1.0, drawn=False),
        Quantity("off_by_1", "codes one step from the nearest", "share", 0.0),
        Quantity("off_by_more", "codes two or more steps from the nearest", "share", 0.0),
    )

    def pair(self, pair: Pair) -> Values:
        """The ratios of every pair; the shares where a code may be another than the nearest."""
        values = {
            "sqnr": formulas.sqnr(pair.value, pair.exact),
            "sqnr_scaled": formulas.scaled_sqnr(pair.value, pair.exact),
        }
        if pair.steps_off is not None:
            off = pair.steps_off()
            values["off_by_0"] = formulas.share(off == 0)
            values["off_by_1"] = formulas.share(off == 1)
            values["off_by_more"] = formulas.share(off >= 2)
        return values


def sqnr() -> SQNR:
    """Signal-to-quantisation-noise ratios, and shares of codes off by 0, 1 or more steps."""
    return SQNR()
