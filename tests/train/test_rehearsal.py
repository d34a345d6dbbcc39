"""Short trainings with witnesses: which kernels they call, and that a kernel that is wrong is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.catalog import find_method
from qbench.kernels import backends
from qbench.kernels.encoding import extremes
from qbench.kernels.library import SCHEMAS
from qbench.kernels.selftest import PRODUCTS
from qbench.kernels.updates import sgd_on_grid_
from qbench.kernels.witness import Witness, difference
from qbench.train import rehearsal

BEHIND_OTHERS = {
    "chunk_statistics", "encode_scaled_view", "encode_view_gradient_", "range_gradient_line", "range_line",
    "view_gradient_extremes",
}  # fmt: skip
"""What fused kernels are composed of where they are not one, as on a GPU."""

RARE = {"encode_error_pair", "encode_levels", "look_up", "view_extremes"}
"""What options call that no preset has."""


def test_trainings_call_the_kernels_and_these_equal_the_reference() -> None:
    found = rehearsal.differences("cpu")
    assert not {op: where for op, where in found.items() if where}
    assert set(SCHEMAS) - set(found) - set(PRODUCTS) == BEHIND_OTHERS | RARE


def test_witnesses_change_nothing() -> None:
    recipe, settings = next(rehearsal.rehearsed())

    def weights(*, witnessed: bool) -> list[Tensor]:
        converted = rehearsal.rehearse(recipe, settings, "cpu")
        if witnessed:
            with Witness():
                converted = rehearsal.rehearse(recipe, settings, "cpu")
        return list(converted.model.state_dict().values())

    for one, other in zip(weights(witnessed=True), weights(witnessed=False), strict=True):
        assert torch.equal(one, other)


def changed(op: str, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any]) -> None:
    """Let ``op`` be served by a function that does as the reference, but for ``change``."""
    reference = backends.find(op, "reference")
    assert reference is not None
    monkeypatch.setitem(backends.CHOSEN, (op, "cpu"), lambda *arguments: change(reference(*arguments), *arguments))


def test_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    changed("extremes", monkeypatch, lambda result, x: result + 2.0**-20)
    with Witness() as witness:
        extremes(torch.tensor([1.0, 2.0]))
    assert witness.differences == {"extremes": "1.0000009536743164 instead of 1.0"}


def test_wrong_write_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more(result: None, codes: Tensor, *rest: object) -> None:
        codes[1] += 1

    changed("sgd_on_grid_", monkeypatch, one_more)
    codes = torch.zeros(3, dtype=torch.int8)
    with Witness() as witness:
        sgd_on_grid_(codes, torch.ones(3), None, 0.0, 0.0, 0.0, False, True, 0.5, -8, 7, "nearest", None)
    assert witness.differences == {"sgd_on_grid_": "1 instead of 0"}
    assert codes.tolist() == [0, 1, 0]


def test_first_difference_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    shift = [1.0]
    changed("extremes", monkeypatch, lambda result, x: result + shift[0])
    with Witness() as witness:
        for shift[0] in (0.0, 1.0, 0.0, 2.0):
            extremes(torch.zeros(2))
    assert witness.differences == {"extremes": "1.0 instead of 0.0"}


def test_what_counts_as_a_difference() -> None:
    nan = torch.tensor([1.0, torch.nan, torch.inf])
    assert difference([nan], [nan.clone()]) == ""
    assert difference([nan], [nan.nan_to_num(0.0, torch.inf)]) == "0.0 instead of nan"
    assert difference([nan], []) == "0 tensors instead of 1"
    assert difference([nan], [nan.double()]) == "torch.float64 (3,) instead of torch.float32 (3,)"
    assert difference([nan.int()[:0]], [nan.int()[:0]]) == ""
    sums = torch.tensor([1e9, 1.0], dtype=torch.float64)
    assert difference([sums], [sums + 0.01]) == ""
    assert difference([sums], [sums + 1]) == "1000000001.0 instead of 1000000000.0"


def test_every_method_of_ours_is_rehearsed() -> None:
    recipes = [recipe for recipe, _ in rehearsal.rehearsed()]
    for name in ("banner8", "wageubn", "graham", "sr", "r", "binaryconnect", "wage", "fixed_point"):
        assert find_method(name).build({}) in recipes
