"""Every implementation gives the reference's results, element for element, on every adversarial input."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import kernel_cases_encoding
import kernel_cases_passes
import kernel_cases_products
import kernel_cases_range_norm
import kernel_cases_updates
import pytest
import torch
from kernel_matrix import IMPLEMENTATIONS, Case, Implementation, assert_same, results, runnable
from torch import Tensor

from qbench.kernels import backends
from qbench.kernels.library import SCHEMAS

CASES = (
    *kernel_cases_products.CASES,
    *kernel_cases_encoding.CASES,
    *kernel_cases_passes.CASES,
    *kernel_cases_updates.CASES,
    *kernel_cases_range_norm.CASES,
)


@lru_cache(maxsize=1)
def expected_of(case: Case) -> list[Tensor]:
    """The reference's results, kept while one implementation after the other meets them."""
    reference = backends.find(case.op, "reference")
    assert reference is not None
    return results(reference, case.arguments())


@pytest.mark.parametrize(("case", "implementation"), runnable(CASES), ids=str)
def test_equals_the_reference(case: Case, implementation: Implementation) -> None:
    function = implementation.function(case.op)
    assert function is not None
    with implementation.limited():
        found = results(function, case.arguments(implementation.device))
    assert_same(expected_of(case), found, case.relative)


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


@pytest.mark.parametrize("name", ["cpp", "cuda", "reference"])
def test_serves_every_operator(name: str) -> None:
    reason = backends.why_not(name)
    if reason:
        pytest.skip(reason)
    assert [op for op in SCHEMAS if backends.find(op, name) is None] == []


def test_names_of_cases_are_unique() -> None:
    names = [str(case) for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "change", [lambda y: y.view(-1)[7:8].add_(1), lambda y: y.view(-1)[7:8].mul_(torch.nan)], ids=["one", "nan"]
)
def test_comparison_sees_one_wrong_element(change: Callable[[Tensor], Tensor]) -> None:
    expected = [torch.arange(12.0).view(3, 4), torch.arange(12).to(torch.uint8)]
    found = [value.clone() for value in expected]
    assert_same(expected, found)
    change(found[0])
    with pytest.raises(AssertionError, match="result 0: 1 of 12 differ"):
        assert_same(expected, found)


def test_comparison_sees_shape_type_and_tolerance() -> None:
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert_same([x], [x * (1 + 1e-12)], 1e-10)
    for wrong in (x.float(), x.view(1, 2), x * (1 + 1e-9)):
        with pytest.raises(AssertionError):
            assert_same([x], [wrong], 1e-10)
