"""What an experiment finds: measured quantities beside their known answers, and the data of its plots.

Plain data that travels between processes and lies on disk as JSON; :mod:`qbench.report` renders it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from qbench.cell import Plain

Relation = Literal["equals", "at least", "at most", "beside"]
"""What a known answer says about the measured value; ``beside`` puts a figure next to it without a judgement."""

Verdict = Literal["within", "outside", "not judged"]

STANDARD_ERRORS = 4.0
"""Width of a tolerance that comes from sampling alone: a right answer fails once in 16 000 times where many Gaussian
values give the standard error, and once in 17 where it is that of three trained seeds."""


@dataclass(frozen=True)
class Estimate:
    """A measured value and its standard error, 0 where nothing is random."""

    value: float
    error: float = 0.0


class Answer(Plain):
    """One quantity with its known answer. known is None where there is none to put beside it.

    setting: under which the quantity was measured. source: where the known answer comes from. error: standard error of
    the measured value, or of its difference from a known answer that was measured along with it. tolerance: how far off
    is still right, and reason, why so far.
    """

    quantity: str
    setting: str = ""
    relation: Relation
    known: float | None
    source: str
    measured: float
    error: float
    tolerance: float
    reason: str

    @property
    def estimate(self) -> Estimate:
        """The measured value with its standard error."""
        return Estimate(self.measured, self.error)

    @property
    def verdict(self) -> Verdict:
        """Whether the measured value is what the known answer says. A NaN is outside."""
        if self.relation == "beside" or self.known is None:
            return "not judged"
        difference = self.measured - self.known
        holds = {
            "equals": abs(difference) <= self.tolerance,
            "at least": difference >= -self.tolerance,
            "at most": difference <= self.tolerance,
        }[self.relation]
        return "within" if holds else "outside"


class Series(Plain):
    """One set of points of a panel. role: ``known``, a method's name or any other group; it gives the colour, and
    series of one role differ in lightness.

    style ``backdrop`` is a faint line on a scale of its own, behind everything else.
    """

    label: str
    role: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] | None = Field(default=None, description="half-widths of error bars")
    style: Literal["line", "dashed", "points", "bars", "backdrop"] = "line"


class Panel(Plain):
    """One pair of axes. level: heights that get a horizontal line, with its label.

    x_scale ``names``: the places mean nothing, each series stands at one and its label below it.
    """

    title: str = ""
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_scale: Literal["linear", "log", "log2", "names"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    level: tuple[float, str] | None = None


class Picture(Plain):
    """One figure: panels row by row. same_axes: all panels share their limits."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="of the file")
    title: str
    note: str = ""
    columns: int = Field(ge=1)
    panels: tuple[Panel, ...]
    same_axes: bool = False


class Findings(Plain):
    """What an experiment returns."""

    answers: tuple[Answer, ...]
    pictures: tuple[Picture, ...] = ()


def equals(
    quantity: str,
    setting: str,
    measured: Estimate,
    known: float,
    source: str,
    *,
    extra: float = 0.0,
    because: str = "",
) -> Answer:
    """The answer that ``measured`` is ``known``, to within sampling error and ``extra``, which ``because`` explains."""
    assert not extra or because, "a tolerance beyond sampling error has a reason"
    tolerance = STANDARD_ERRORS * measured.error + extra
    return _answer(quantity, setting, measured, "equals", known, source, tolerance, _reason(measured, extra, because))


def bounded(
    quantity: str,
    setting: str,
    measured: Estimate,
    relation: Literal["at least", "at most"],
    known: float,
    source: str,
) -> Answer:
    """The answer that ``measured`` lies on one side of ``known``, to within sampling error."""
    tolerance = STANDARD_ERRORS * measured.error
    return _answer(quantity, setting, measured, relation, known, source, tolerance, _reason(measured, 0.0, ""))


def beside(quantity: str, setting: str, measured: Estimate, known: float | None, source: str) -> Answer:
    """``measured`` next to a figure that it need not reproduce."""
    return _answer(quantity, setting, measured, "beside", known, source, 0.0, "not judged")


def _answer(
    quantity: str, setting: str, measured: Estimate, relation: Relation, known: float | None, source: str,
    tolerance: float, reason: str,
) -> Answer:  # fmt: skip
    return Answer(
        quantity=quantity,
        setting=setting,
        relation=relation,
        known=known,
        source=source,
        measured=measured.value,
        error=measured.error,
        tolerance=tolerance,
        reason=reason,
    )


def _reason(measured: Estimate, extra: float, because: str) -> str:
    parts = [f"{STANDARD_ERRORS:g} standard errors"] if measured.error else []
    parts += [f"an allowance {because}"] if extra else []
    return " and ".join(parts) or "none"


def points(label: str, role: str, x: Sequence[float], found: Sequence[Estimate]) -> Series:
    """Measured values, with bars of STANDARD_ERRORS standard errors."""
    return Series(
        label=label,
        role=role,
        x=tuple(x),
        y=tuple(one.value for one in found),
        error=tuple(STANDARD_ERRORS * one.error for one in found),
        style="points",
    )


def known_line(label: str, x: Sequence[float], answers: Sequence[Answer]) -> Series:
    """The known answers, dashed."""
    return Series(
        label=label, role="known", x=tuple(x), y=tuple(answer.known or 0.0 for answer in answers), style="dashed"
    )


def with_known(
    label: str, role: str, x: Sequence[float], answers: Sequence[Answer], known_label: str = ""
) -> list[Series]:
    """What was measured, and the line of its known answers."""
    return [points(label, role, x, [answer.estimate for answer in answers]), known_line(known_label, x, answers)]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent ``values`` and its standard error; two at least."""
    count = len(values)
    assert count >= 2, "one value has no standard error"
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, math.sqrt(variance / count))
