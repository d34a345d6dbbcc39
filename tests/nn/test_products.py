"""The products of both arithmetics are exact."""

import pytest
import torch
from arithmetics import both_arithmetics
from torch import nn

from qbench.nn.geometry import Geometry
from qbench.nn.products import FUNCTIONS
from qbench.quant.formats import Symmetric
from qbench.quant.qtensor import QTensor
from qbench.recipe import Arithmetic

GEOMETRIES = [
    Geometry(), Geometry((2, 2), (1, 1)), Geometry((1, 2), (0, 1), (2, 1)), Geometry((1, 1), (1, 1), (1, 1), 2),
]  # fmt: skip


def codes(*shape: int, value: int | None = None, seed: int = 0) -> QTensor:
    """An int8 tensor: random, or every element the same."""
    data = torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed))
    data = data if value is None else torch.full(shape, value)
    return QTensor(data.to(torch.int8), torch.tensor(1.0), None, Symmetric(8))


@both_arithmetics
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("value", [None, 127, -128])
def test_convolution_products_are_exact(geometry: Geometry, value: int | None, arithmetic: Arithmetic) -> None:
    """Equal to float64 on random codes and on the worst case: every product with the same sign."""
    functions = FUNCTIONS[arithmetic]
    x, w = codes(3, 10, 9, 8, value=value), codes(6, 10 // geometry.groups, 3, 3, value=value, seed=1)
    inputs = (x.codes.double().requires_grad_(), w.codes.double().requires_grad_())
    y = nn.functional.conv2d(*inputs, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    assert torch.equal(functions.conv(x, w, geometry).double(), y)
    e = codes(*y.shape, value=value, seed=2)
    grad_x, grad_w = torch.autograd.grad(y, inputs, e.codes.double())
    assert torch.equal(functions.conv_input_grad(e, w, x.codes.shape, geometry).double(), grad_x)
    assert torch.equal(functions.conv_weight_grad(x, e, w.codes.shape, geometry).double(), grad_w)


@both_arithmetics
def test_sums_beyond_float32_are_exact(arithmetic: Arithmetic) -> None:
    """K = 2 * 40 * 40 = 3200 products of 127 * 127 pass 2^24, where float32 sums go wrong."""
    functions = FUNCTIONS[arithmetic]
    x, e = codes(2, 1, 40, 40, value=127), codes(2, 1, 40, 40, value=127)
    got = functions.conv_weight_grad(x, e, torch.Size([1, 1, 1, 1]), Geometry())
    assert float(got) == float(torch.tensor(3200 * 127 * 127).float())
    big = functions.linear(codes(1, 4097, value=127), codes(1, 4097, value=127))
    assert float(big) == float(torch.tensor(4097 * 127 * 127).float())


@both_arithmetics
def test_integer_products_are_exact_under_autocast(arithmetic: Arithmetic) -> None:
    functions = FUNCTIONS[arithmetic]
    x, w, rows = codes(2, 5, 6, 6), codes(4, 5, 3, 3, seed=1), codes(8, 30)
    expected = functions.conv(x, w, Geometry()), functions.linear(rows, rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(functions.conv(x, w, Geometry()), expected[0])
        assert torch.equal(functions.linear(rows, rows), expected[1])


@both_arithmetics
def test_sums_that_cancel_are_exact(arithmetic: Arithmetic) -> None:
    """The first half of the terms adds up to far more than 2^24, and the second takes it away again."""
    length = 20_000
    x = codes(1, length, value=127)
    x.codes[0, ::3] -= 1
    w = codes(1, length, value=127)
    w.codes[0, length // 2 :] *= -1
    exact = int((x.codes.long() * w.codes.long()).sum())
    assert float(FUNCTIONS[arithmetic].linear(x, w)) == exact
    error = QTensor(x.codes.t(), x.scale, None, x.format), QTensor(w.codes.t(), w.scale, None, w.format)
    assert float(FUNCTIONS[arithmetic].linear_weight_grad(*error)) == exact


@both_arithmetics
def test_products_with_a_scale_per_filter(arithmetic: Arithmetic) -> None:
    """Outside of sums over taps and channels, inside of those over filters."""
    functions, scales = FUNCTIONS[arithmetic], torch.tensor([0.1, 1, 10, 100])
    spec, x, e = Symmetric(8, granularity="channel"), codes(2, 3, 5, 5), codes(2, 4, 3, 3)
    filters = QTensor(codes(4, 3, 3, 3).codes, scales.view(4, 1, 1, 1), None, spec)
    rows = QTensor(codes(4, 12).codes, scales.view(4, 1), None, spec)
    w, v = filters.dequantize().double(), rows.dequantize().double()
    found_and_expected = [
        (functions.conv(x, filters, Geometry()), nn.functional.conv2d(x.codes.double(), w)),
        (
            functions.conv_input_grad(e, filters, x.codes.shape, Geometry()),
            nn.functional.conv_transpose2d(e.codes.double(), w),
        ),
        (functions.linear(codes(6, 12), rows), codes(6, 12).codes.double() @ v.t()),
        (functions.linear_input_grad(codes(6, 4), rows), codes(6, 4).codes.double() @ v),
    ]
    for found, expected in found_and_expected:
        assert (found - expected).abs().max() < 1e-6 * expected.abs().max()
