"""Every method keeps every promise of the contract; a new method file is taken in by being there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qbench.catalog import find_method, methods
from qbench.errors import ContractError
from qbench.train.contract import CHECKS, Probe

BROKEN = {
    "undocumented": "documented",
    "moody": "builds a recipe",
    "credulous": "refuses bad options",
    "nullless": "null options change nothing",
    "notnull": "null options change nothing",
    "noisy": "repeatable",
    "partial": "arithmetics agree",
    "divergent": "trains",
    "restless": "evaluates",
    "fragile": "survives zeros",
    "wasteful": "declared formats hold",
}
"""Methods of broken_methods.py, and the promise that each breaks."""


@pytest.fixture(scope="session")
def probes() -> dict[str, Probe]:
    return {entry.name: Probe(entry.load(), entry.name) for entry in methods()}


@pytest.mark.parametrize("name", methods().names())
@pytest.mark.parametrize("check", CHECKS)
def test_contract(probes: dict[str, Probe], name: str, check: str) -> None:
    assert CHECKS[check](probes[name])


@pytest.mark.parametrize(("name", "promise"), BROKEN.items())
def test_a_broken_promise_is_seen(name: str, promise: str) -> None:
    reference = f"{Path(__file__).with_name('broken_methods.py')}:{name}"
    with pytest.raises(ContractError):
        CHECKS[promise](Probe(find_method(reference), reference))


def test_another_start_is_seen(probes: dict[str, Probe]) -> None:
    """No recipe reaches the initial weights, which are counted before it is applied: a damaged count stands for one."""
    probe = Probe(find_method("fp32"), "fp32")
    trace = probes["fp32"].default
    probe.__dict__["default"] = replace(trace, built=replace(trace.built, init_sha="0" * 16))
    with pytest.raises(ContractError, match="starts from other weights"):
        CHECKS["same start as float32"](probe)
