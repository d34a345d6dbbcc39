"""The weight gradient from a line of codes is the float convolution's with the error that the line stands for."""

from __future__ import annotations

import kernel_cases_line_gradient as cases
import pytest
import torch
from kernel_cases_products import SHAPES, Shape
from kernel_matrix import integers, normal, number
from torch import Tensor

from qbench.kernels import backends
from qbench.kernels.line_gradient import conv2d_s8_weight_grad_line, linear_s8_weight_grad_line


def error_of(e: Tensor, slope: Tensor, mean: Tensor, pull: Tensor, at: Tensor) -> Tensor:
    """The line's values, the maxima less the pull, the minima with it: float64 of e's shape."""
    rows = (e.permute(0, 2, 3, 1).double() - mean) * slope.double()
    flat, pulls = rows.flatten(), pull.double()[at % len(pull)]
    half = len(at) // 2
    flat.index_put_((at,), torch.cat([-pulls[:half], pulls[half:]]), accumulate=True)
    return flat.view(rows.shape).permute(0, 3, 1, 2)


def keys(shape: Shape) -> dict[str, object]:
    return dict(zip(("stride", "padding", "dilation", "groups"), shape.geometry, strict=True))


def real_gradient(shape: Shape, arguments: tuple) -> Tensor:
    x, x_zero, x_scale, e, *line = arguments[:8]
    centred = (x.double() - (0 if x_zero is None else x_zero.double())) * x_scale.double()
    return gradient(shape, centred, error_of(e, *line))


def gradient(shape: Shape, x: Tensor, error: Tensor) -> Tensor:
    where = (list(shape.stride), list(shape.padding), list(shape.dilation), shape.groups)
    return torch.nn.grad.conv2d_weight(x, shape.w, error, *where)


@pytest.mark.parametrize("fill", cases.FILLS, ids=str)
@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 not in (*s.x, *s.w)], ids=lambda s: s.label)
def test_it_is_the_gradient_of_the_error_that_the_line_stands_for(shape: Shape, fill) -> None:
    arguments = cases.line(shape, fill, 1)
    x, x_zero, x_scale, e, slope, mean, pull, at, *_ = arguments
    with backends.forced("reference"):
        found = conv2d_s8_weight_grad_line(x, e, shape.w, x_scale, slope, mean, pull, at, x_zero=x_zero, **keys(shape))
    expected = real_gradient(shape, arguments)
    # Rounded twice to float32; what float64 sums lose is far below that, also where they cancel.
    ones = torch.ones_like(x, dtype=torch.float64) * 255 * x_scale.double()
    largest = error_of(e, slope.abs(), -mean.abs(), pull, at[:0]) + pull.abs().view(1, -1, 1, 1)
    size = gradient(shape, ones, largest)
    assert ((found - expected).abs() <= 1.3e-7 * expected.abs() + 1e-14 * size.abs()).all()


def test_a_linear_layer_is_a_convolution_of_one_pixel() -> None:
    shape = Shape("", (24, 9, 1, 1), 7, (1, 1))
    x, x_zero, x_scale, e, *rest = cases.line(shape, cases.FILLS[1], 3)
    line = rest[:4]
    found = linear_s8_weight_grad_line(x[..., 0, 0], e[..., 0, 0], x_scale, *line, x_zero=x_zero)
    expected = conv2d_s8_weight_grad_line(x, e, shape.w, x_scale, *line, x_zero=x_zero)
    assert found.shape == (7, 9) and torch.equal(found, expected[..., 0, 0])


def test_of_no_filters_there_is_no_gradient() -> None:
    x, nothing = torch.zeros((3, 4), dtype=torch.uint8), torch.zeros(0)
    line = (torch.tensor(1.0), nothing, nothing.double(), nothing, nothing.long())
    assert linear_s8_weight_grad_line(x, torch.zeros((3, 0), dtype=torch.uint8), *line).shape == (0, 4)


def test_an_error_that_is_the_same_everywhere_gives_no_gradient() -> None:
    """However steep the line: what the norm of a constant channel makes of its rounding would drown the others."""
    x, e = integers((3, 5, 6, 6), torch.uint8, seed=1), torch.full((3, 4, 4, 4), 123, dtype=torch.uint8)
    slope, nothing = normal((4,), seed=2) * 1e5, torch.zeros(0, dtype=torch.int64)
    line = (number(0.0173), slope, torch.full((4,), 123.0, dtype=torch.float64), torch.ones(4), nothing)
    assert not conv2d_s8_weight_grad_line(x, e, (4, 5, 3, 3), *line, x_zero=number(7.0)).any()
