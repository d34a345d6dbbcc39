"""How many weights have another code, or another sign, than before."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from qbench.options import PositiveInt
from qbench.probes import formulas
from qbench.probes.base import Probe, Quantity, Values, Weight

if TYPE_CHECKING:
    from torch import Tensor

Snapshot = tuple["Tensor", "Tensor"]
"""Codes, and signs as int8 (-1, 0, 1)."""


class WeightChange(Probe):
    """Shares of a layer's weights that changed: code_since_start and sign_since_start, whose code (sign) is another one
    than at the start, and code_since_k and sign_since_k, another one than k epochs ago.

    Epochs are compared by their ends; in the first k - 1 there is nothing k epochs ago yet, in epoch k that is the
    start. A weight without a format counts as changed when its float32 value did. Where a format takes its scale from
    the tensor, a change of the scale alone may change codes.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        ago = "one epoch" if k == 1 else f"{k} epochs"
        self.quantities = (
            Quantity("code_since_start", "weights whose code changed since the start", "share", 0.0),
            Quantity("sign_since_start", "weights whose sign changed since the start", "share", 0.0),
            Quantity("code_since_k", f"weights whose code changed since {ago} ago", "share", 0.0),
            Quantity("sign_since_k", f"weights whose sign changed since {ago} ago", "share", 0.0),
        )
        self._start: dict[tuple[str, str], Snapshot] = {}
        self._recent: dict[tuple[str, str], list[Snapshot]] = defaultdict(list)

    def begin(self, weight: Weight) -> None:
        """Keep the start."""
        place = weight.layer, weight.path
        self._start[place] = snapshot(weight)
        self._recent[place].append(self._start[place])

    def weight(self, weight: Weight) -> Values:
        """The shares, by what was kept of earlier epochs."""
        place, now = (weight.layer, weight.path), snapshot(weight)
        recent = self._recent[place]
        values: dict[str, float | None] = {
            "code_since_start": changed(now[0], self._start[place][0]),
            "sign_since_start": changed(now[1], self._start[place][1]),
            "code_since_k": None,
            "sign_since_k": None,
        }
        if len(recent) == self.k:
            old = recent.pop(0)
            values["code_since_k"], values["sign_since_k"] = changed(now[0], old[0]), changed(now[1], old[1])
        recent.append(now)
        return values


def snapshot(weight: Weight) -> Snapshot:
    """A copy of a weight's codes and signs."""
    return weight.codes.detach().clone(), weight.values.detach().sign().char()


def changed(now: Tensor, before: Tensor) -> float:
    """The share of elements that differ; NaN counts as a change."""
    return formulas.share(now != before)


def weight_change(*, k: PositiveInt = 1) -> WeightChange:
    """Shares of weights whose code or sign changed.

    k: epochs to look back.
    """
    return WeightChange(k)
