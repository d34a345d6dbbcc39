"""When an answer is right, and what its tolerance is made of."""

from __future__ import annotations

import math

import pytest

from qbench.theory.findings import Answer, Estimate, Findings, beside, bounded, equals, estimate
from qbench.theory.progress import tracked


def test_an_equality_holds_within_four_standard_errors():
    def answer(measured: float) -> Answer:
        return equals("q", "s", Estimate(measured, 0.1), 1.0, "source")

    assert answer(1.0).tolerance == pytest.approx(0.4)
    assert answer(1.0).reason == "4 standard errors"
    assert [answer(x).verdict for x in (0.61, 1.39, 0.59, 1.41)] == ["within", "within", "outside", "outside"]


def test_an_allowance_widens_the_tolerance_and_needs_a_reason():
    answer = equals("q", "s", Estimate(1.5, 0.1), 1.0, "source", extra=0.2, because="for the grid")
    assert answer.tolerance == pytest.approx(0.6)
    assert answer.reason == "4 standard errors and an allowance for the grid"
    assert equals("q", "s", Estimate(1.0), 1.0, "source", extra=0.0, because="never used").reason == "none"
    with pytest.raises(AssertionError):
        equals("q", "s", Estimate(1.0), 1.0, "source", extra=0.1)


@pytest.mark.parametrize(
    ("relation", "measured", "verdict"),
    [
        ("at least", 1.1, "within"),
        ("at least", 0.9, "outside"),
        ("at most", 0.9, "within"),
        ("at most", 1.1, "outside"),
        ("at least", 1.0, "within"),
        ("at most", 1.0, "within"),
    ],
)
def test_bounds(relation, measured, verdict):
    assert bounded("q", "s", Estimate(measured), relation, 1.0, "source").verdict == verdict


def test_a_bound_holds_within_four_standard_errors():
    def verdicts(relation, *measured: float) -> list[str]:
        return [bounded("q", "s", Estimate(x, 0.1), relation, 1.0, "source").verdict for x in measured]

    assert verdicts("at least", 0.61, 0.59) == ["within", "outside"]
    assert verdicts("at most", 1.39, 1.41) == ["within", "outside"]


def test_nan_is_never_right():
    nan = Estimate(math.nan, math.nan)
    assert equals("q", "s", nan, 1.0, "source").verdict == "outside"
    assert bounded("q", "s", nan, "at least", 1.0, "source").verdict == "outside"
    assert bounded("q", "s", nan, "at most", 1.0, "source").verdict == "outside"


def test_a_figure_beside_is_not_judged():
    assert beside("q", "s", Estimate(5.0), 1.0, "source").verdict == "not judged"
    assert beside("q", "s", Estimate(5.0), None, "source").verdict == "not judged"


def test_estimate_is_mean_and_standard_error():
    found = estimate([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert found.error == pytest.approx(math.sqrt(5 / 3 / 4))
    with pytest.raises(AssertionError):
        estimate([1.0])


def test_findings_survive_json_with_a_nan():
    findings = Findings(answers=(equals("q", "s", Estimate(math.nan), 1.0, "source"),))
    again = Findings.model_validate_json(findings.model_dump_json())
    assert math.isnan(again.answers[0].measured)
    assert again.answers[0].verdict == "outside"


def test_tracked_tells_how_far_it_is():
    told: list[float] = []
    assert list(tracked(range(200), 200, told.append, 0.5, 1.0)) == list(range(200))
    assert told[0] == 0.5
    assert told[-1] == 1.0
    assert told == sorted(told)
    assert len(told) <= 60
