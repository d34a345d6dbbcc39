"""Level sets against the values worked out for a standard normal input."""

import pytest
import torch

from qbench.quant.formats import Levels
from qbench.quant.levels import decision_points, level_table

STEPS = {1: 2 * 0.7979, 2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 8: 0.0308}
POSITIVE = {
    (2, "equal_area"): [0.3247, 1.2711],
    (3, "equal_area"): [0.1580, 0.4913, 0.8954, 1.6468],
    (4, "equal_area"): [0.0785, 0.2375, 0.4027, 0.5800, 0.7779, 1.0129, 1.3259, 1.9677],
    (2, "lloyd_max"): [0.4528, 1.5104],
    (3, "lloyd_max"): [0.2451, 0.7560, 1.3439, 2.1519],
    (4, "lloyd_max"): [0.1284, 0.3880, 0.6568, 0.9423, 1.2562, 1.6180, 2.0690, 2.7326],
}
ERRORS = {  # bits, grid: mean square error, entropy in bits
    (1, "uniform"): (0.3634, 1.00), (2, "uniform"): (0.1189, 1.90), (2, "equal_area"): (0.1394, 2.00),
    (2, "lloyd_max"): (0.1175, 1.91), (3, "uniform"): (0.0374, 2.76), (3, "equal_area"): (0.0550, 3.00),
    (3, "lloyd_max"): (0.0346, 2.83), (4, "uniform"): (0.0115, 3.60), (4, "equal_area"): (0.0222, 4.00),
    (4, "lloyd_max"): (0.0095, 3.77), (5, "uniform"): (0.0035, 4.45), (5, "lloyd_max"): (0.0025, 4.73),
}  # fmt: skip


@pytest.mark.parametrize(("bits", "step"), STEPS.items())
def test_uniform_step(bits: int, step: float) -> None:
    table = level_table(Levels(bits))
    assert float(table[-1] - table[-2]) == pytest.approx(step, abs=6e-5)


@pytest.mark.parametrize(("key", "levels"), POSITIVE.items(), ids=str)
def test_published_positions(key: tuple[int, str], levels: list[float]) -> None:
    table = level_table(Levels(key[0], key[1]))  # type: ignore[arg-type]
    assert table[len(levels) :].tolist() == pytest.approx(levels, abs=6e-5)
    assert torch.equal(table, -table.flip(0))


@pytest.mark.parametrize(("key", "expected"), ERRORS.items(), ids=str)
def test_error_and_entropy(key: tuple[int, str], expected: tuple[float, float]) -> None:
    """By quadrature over the standard normal density: grid error far below the four digits compared."""
    spec = Levels(key[0], key[1])  # type: ignore[arg-type]
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    weight = torch.exp(-x * x / 2)
    weight /= weight.sum()
    codes = torch.bucketize(x, decision_points(spec).double())
    error = float((weight * (x - level_table(spec).double()[codes]) ** 2).sum())
    mass = torch.zeros(2**spec.bits, dtype=torch.float64).scatter_add_(0, codes, weight)
    assert error == pytest.approx(expected[0], abs=6e-5)
    assert float(-(mass * mass.log2()).sum()) == pytest.approx(expected[1], abs=6e-3)


def test_log_levels_are_powers_of_two() -> None:
    positive = level_table(Levels(4, "log"))[8:]
    assert torch.equal(positive.log2(), positive.log2().round())
