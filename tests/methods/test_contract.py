"""Every method keeps every promise of the contract; a new method file is taken in by being there."""

import pytest

from qbench.catalog import methods
from qbench.train.contract import CHECKS, Probe


@pytest.fixture(scope="session")
def probes() -> dict[str, Probe]:
    return {entry.name: Probe(entry.load(), entry.name) for entry in methods()}


@pytest.mark.parametrize("name", methods().names())
@pytest.mark.parametrize("check", CHECKS)
def test_contract(probes: dict[str, Probe], name: str, check: str) -> None:
    assert CHECKS[check](probes[name])
