"""Whole training steps come out the same, integer by integer, whichever implementation serves the operators."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from kernel_matrix import IMPLEMENTATIONS, Implementation, serving
from recorded_steps import CONFIGURATIONS, recorded

SERVED = [one for one in (*IMPLEMENTATIONS, Implementation("reference")) if one.device == "cpu" and not one.why_not()]


@cache
def expected(configuration: int) -> list[list[object]]:
    """By what this machine would choose."""
    return recorded(*CONFIGURATIONS[configuration])


@pytest.mark.slow
@pytest.mark.parametrize("implementation", SERVED, ids=str)
@pytest.mark.parametrize("configuration", range(len(CONFIGURATIONS)), ids=map(str, CONFIGURATIONS))
def test_every_implementation_trains_the_same(configuration: int, implementation: Implementation) -> None:
    wanted = expected(configuration)
    with serving(implementation):
        assert recorded(*CONFIGURATIONS[configuration]) == wanted


class Wrong(Implementation):
    """The reference, one code off in one operator."""

    def function(self, op: str) -> Callable[..., Any] | None:
        right = super().function(op)
        if op != "encode_error" or right is None:
            return right
        return lambda *arguments: (right(*arguments)[0] + 1, *right(*arguments)[1:])


def test_a_wrong_kernel_shows() -> None:
    wanted = expected(0)
    with serving(Wrong("reference")):
        assert recorded(*CONFIGURATIONS[0]) != wanted
