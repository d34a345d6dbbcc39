"""Every implementation gives the reference's results, element for element, on every adversarial input."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import CASES
from kernel_draws import drawn
from kernel_matrix import IMPLEMENTATIONS, Case, Implementation, difference, results
from torch_settings import default_type

from qbench.kernels import backends
from qbench.kernels.library import SCHEMAS

PRESENT = [implementation for implementation in IMPLEMENTATIONS if not implementation.why_not()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_reference(case: Case) -> None:
    assert wrong(case) == {}


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_reference_on_drawn_shapes(seed: int) -> None:
    found = {str(case): wrong(case) for case in drawn(seed)}
    assert {case: texts for case, texts in found.items() if texts} == {}


def wrong(case: Case) -> dict[str, str]:
    """By implementation, where it differs."""
    arguments = case.build()
    expected = results(Implementation("reference"), case.op, arguments)
    served = [implementation for implementation in PRESENT if implementation.function(case.op)]
    texts = {str(one): difference(expected, results(one, case.op, arguments), case.relative) for one in served}
    return {name: text for name, text in texts.items() if text}


@pytest.mark.parametrize("op", SCHEMAS)
def test_the_default_type_of_floats_changes_nothing(op: str) -> None:
    """Of a wider one C++ would fill a part, of a narrower one it would write beyond the end."""
    cases = [case for case in CASES if case.op == op and not case.is_long]
    for case in {str(case): case for case in (cases[0], cases[len(cases) // 2], cases[-1])}.values():
        arguments = case.build()
        expected = results(Implementation("reference"), op, arguments)
        for name in ("cpp", "numba", "onednn", "reference"):
            one = Implementation(name)
            if not one.why_not() and one.function(op):
                with default_type(torch.float64):
                    found = results(one, op, arguments)
                assert difference(expected, found, case.relative) == "", (name, str(case))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)
def test_is_here(implementation: Implementation) -> None:
    """Says which implementations this machine cannot test, and why."""
    reason = implementation.why_not()
    if reason:
        pytest.skip(reason)
    assert any(implementation.function(op) for op in SCHEMAS)


@pytest.mark.parametrize("op", SCHEMAS)
def test_every_operator_has_cases(op: str) -> None:
    assert any(case.op == op for case in CASES)
    assert any(case.op == op for case in drawn(0))


@pytest.mark.parametrize("name", ["cpp", "cuda", "reference"])
def test_serves_every_operator(name: str) -> None:
    reason = backends.why_not(name)
    if reason:
        pytest.skip(reason)
    assert [op for op in SCHEMAS if backends.find(op, name) is None] == []


def test_names_of_cases_are_unique() -> None:
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("wrong", [1000.0, torch.nan], ids=str)
def test_comparison_sees_one_wrong_element(wrong: float) -> None:
    expected = [torch.arange(12.0).view(3, 4), torch.arange(12).to(torch.uint8)]
    found = [value.clone() for value in expected]
    assert difference(expected, found) == ""
    found[0][1, 3] = wrong
    assert difference(expected, found) == f"result 0: 1 of 12 differ, first at [1, 3]: [{wrong}] instead of [7.0]"


def test_comparison_sees_shape_type_and_tolerance() -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert difference([x], [x * (1 + 1e-12)], 1e-10) == ""
    for wrong in ([x.float()], [x.view(1, 2)], [x * (1 + 1e-9)], [], [x, x]):
        assert difference([x], wrong, 1e-10)
