"""The probes that remember earlier epochs, and the one of updates, on runs made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from qbench.probes.base import Pair, Weight, WeightStep
from qbench.probes.drift import drift
from qbench.probes.updates import updates
from qbench.probes.weight_change import weight_change
from qbench.quant.formats import Symmetric
from qbench.quant.qtensor import QTensor


def weight(codes: list[int], layer: str = "l") -> Weight:
    return Weight(
        layer, "weight", torch.tensor(codes, dtype=torch.int8), 0.5 * torch.tensor(codes, dtype=torch.float32)
    )


def test_weight_change_since_the_start_and_since_k_epochs() -> None:
    probe = weight_change(k=2)
    probe.begin(weight([1, 2, -3, 0]))
    found = [probe.weight(weight(codes)) for codes in ([1, 2, -3, 1], [1, -2, -3, 0], [1, 2, -3, 0], [-1, -2, -3, 0])]
    # Changed of four against the start, and against the epoch two before; epoch 2 looks back at the start.
    assert [row["code_since_start"] for row in found] == [0.25, 0.25, 0.0, 0.5]
    assert [row["sign_since_start"] for row in found] == [0.25, 0.25, 0.0, 0.5]
    assert [row["code_since_k"] for row in found] == [None, 0.25, 0.25, 0.25]


def test_a_change_of_code_need_not_be_one_of_sign() -> None:
    probe = weight_change(k=1)
    probe.begin(weight([4, -4, 4, -4]))
    found = probe.weight(weight([5, -4, -4, -4]))
    assert (found["code_since_start"], found["sign_since_start"]) == (0.5, 0.25)
    assert (found["code_since_k"], found["sign_since_k"]) == (0.5, 0.25)


def test_layers_are_kept_apart_and_what_is_kept_is_a_copy() -> None:
    probe = weight_change(k=1)
    one, two = weight([1, 1], "one"), weight([1, 1], "two")
    probe.begin(one)
    probe.begin(two)
    one.codes.neg_()
    one.values.neg_()
    assert probe.weight(one)["sign_since_start"] == 1.0
    assert probe.weight(two)["sign_since_start"] == 0.0


def test_a_weight_of_nothing_has_no_share() -> None:
    probe = weight_change(k=1)
    probe.begin(weight([]))
    value = probe.weight(weight([]))["code_since_start"]
    assert value is not None
    assert math.isnan(value)


def step(wanted: list[float], stays: list[bool]) -> WeightStep:
    gradient = torch.ones(len(wanted))
    return WeightStep("l", gradient, gradient, torch.tensor(wanted, dtype=torch.float64), torch.tensor(stays))


def test_effective_updates() -> None:
    # Of five weights four are wanted to change and one of these does: it takes the only update that is effective.
    found = updates().step(step([0.1, -0.2, 0.0, 1e-9, 2.0], [True, True, True, True, False]))
    assert found == {"wanted": 0.8, "effective": 0.25}


def test_updates_that_nobody_wants_and_that_are_no_numbers() -> None:
    nothing = updates().step(step([0.0, 0.0], [True, True]))
    assert nothing["wanted"] == 0
    assert math.isnan(nothing["effective"] or 0)
    broken = updates().step(step([math.nan, 1.0], [True, False]))
    assert all(math.isnan(value or 0) for value in broken.values())


def test_gradient_norms() -> None:
    probe = drift()
    exact = torch.tensor([6.0, 8.0])
    first = probe.pair(Pair("l", "loss_gradient", torch.tensor([3.0, 4.0]), exact))
    second = probe.pair(Pair("l", "loss_gradient", torch.tensor([0.0, 1.0]), exact))
    assert first == {"gradient_norm": 5.0, "gradient_to_exact": 0.5, "gradient_to_first": 1.0}
    assert second == {"gradient_norm": 1.0, "gradient_to_exact": 0.1, "gradient_to_first": pytest.approx(0.2)}


def test_scales_move_in_octaves() -> None:
    probe = drift()
    found = []
    for scale in (0.5, 1.0, 0.25):
        q = QTensor(torch.ones(2, dtype=torch.int8), torch.tensor(scale), None, Symmetric(8))
        found.append(probe.pair(Pair("l", "weight", q.dequantize(), q.dequantize(), q)))
    assert [row["scale"] for row in found] == [0.5, 1.0, 0.25]
    assert [row["scale_change"] for row in found] == [None, 1.0, -2.0]
