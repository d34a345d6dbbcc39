"""Every method keeps every promise of the contract; a new method file is taken in by being there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qbench.catalog import find_method, methods
from qbench.errors import ContractError, QbenchError
from qbench.train import contract
from qbench.train.contract import CHECKS, CheckResult, Probe, check_method

INF, NAN = math.inf, math.nan
FLOAT32_MAX = torch.finfo(torch.float32).max

BROKEN = [
    ("undocumented", "documented", "the docstring does not mention: bits"),
    ("moody", "builds a recipe", "two calls with the same options return different recipes$"),
    ("noisy", "builds a recipe", "different recipes; its transform is another each time: make it a function of the"),
    ("preset", "builds a recipe", "method 'preset' has no option 'bit', did you mean 'bits'"),
    ("forgetful", "trains", "a transform returns the model, and this one returned NoneType; return it"),
    ("credulous", "refuses bad options", "accepts any value for 'anything'"),
    ("nullless", "null options change nothing", "states no null options"),
    ("notnull", "null options change nothing", "null options change the loss at step 0: "),
    ("noisy", "repeatable", "two runs with one seed differ"),
    ("partial", "arithmetics agree", "simulated arithmetic gives other losses than integer"),
    ("secretive", "replayed steps are the same", "replayed steps give other losses"),
    ("divergent", "trains", "the loss is not finite within 4 steps"),
    ("poisonous", "trains", "a weight or buffer is not finite after training"),
    ("restless", "evaluates", "evaluation changes seen"),
    ("fickle", "evaluates", "two evaluations of the same batch differ"),
    ("fragile", "survives zeros", "a batch of zeros gives a loss or gradient that is not finite"),
    ("wasteful", "declared formats hold", "used 8 bits of 2"),
]
"""Methods of broken_methods.py, the promise that each breaks, and what is said of it."""


@pytest.fixture(scope="session")
def probes() -> dict[str, Probe]:
    return {entry.name: Probe(entry.load(), entry.name) for entry in methods()}


@pytest.mark.parametrize("name", methods().names())
@pytest.mark.parametrize("check", CHECKS)
def test_contract(probes: dict[str, Probe], name: str, check: str) -> None:
    assert CHECKS[check](probes[name])


@pytest.mark.parametrize(("name", "promise", "message"), BROKEN)
def test_a_broken_promise_is_seen(name: str, promise: str, message: str) -> None:
    reference = f"{Path(__file__).with_name('broken_methods.py')}:{name}"
    with pytest.raises(QbenchError, match=message):
        CHECKS[promise](Probe(find_method(reference), reference))


def test_every_promise_is_broken_by_some_method() -> None:
    assert {promise for _, promise, _ in BROKEN} == CHECKS.keys() - {"same start as float32"}


def test_a_method_that_raises_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from qbench import Recipe, method\n\n\ndef change(model):\n    raise MemoryError\n\n\n"
        '@method("mine", null={})\ndef mine() -> Recipe:\n    """Fails."""\n    return Recipe(transform=change)\n'
    )
    results = {result.name: result.detail for result in check_method(find_method(str(file)), str(file))}
    assert results["trains"] == "MemoryError (mine.py, line 5)"


def test_a_check_that_raises_has_failed_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: BaseException) -> Callable[[Probe], str]:
        def check(probe: Probe) -> str:
            raise error

        return check

    checks = {
        "kept": lambda probe: probe.reference,
        "broken": raising(ContractError("why")),
        "odd": raising(KeyError(3)),
        "ended": raising(SystemExit(0)),
    }
    monkeypatch.setattr(contract, "CHECKS", checks)
    assert check_method(find_method("fp32"), "./mine.py:fp32") == [
        CheckResult("kept", True, "./mine.py:fp32"),
        CheckResult("broken", False, "why"),
        CheckResult("odd", False, "KeyError: 3"),
        CheckResult("ended", False, "SystemExit: 0"),
    ]
    assert check_method(find_method("fp32"))[0].detail == "fp32"


def test_what_a_method_quantises_is_told() -> None:
    told = CHECKS["builds a recipe"](Probe(find_method("banner8"), "banner8"))
    assert told == "quantises weight, activation, error, wgrad_error, norm_error; RangeNorm, Update"
    assert CHECKS["builds a recipe"](Probe(find_method("fp32"), "fp32")) == "quantises no operand; BatchNorm, Update"


def test_another_start_is_seen(probes: dict[str, Probe]) -> None:
    """No recipe reaches the initial weights, which are counted before it is applied: a damaged count stands for one."""
    probe = Probe(find_method("fp32"), "fp32")
    trace = probes["fp32"].default
    probe.__dict__["default"] = replace(trace, built=replace(trace.built, init_sha="0" * 16))
    with pytest.raises(ContractError, match="starts from other weights"):
        CHECKS["same start as float32"](probe)


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [([1.0, NAN], [1.0, NAN], True), ([NAN], [0.0], False), ([INF], [FLOAT32_MAX], False), ([1], [1], True)],
)
def test_a_nan_is_a_nan_and_no_zero(a: list[float], b: list[float], is_same: bool) -> None:
    assert contract._same(torch.tensor(a), torch.tensor(b)) is is_same
