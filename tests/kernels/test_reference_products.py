"""The reference products against PyTorch's float64 convolution and its gradients, and against loops on tiny shapes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from kernel_cases_products import FILLS, LONG, S8, SHAPES, U8, Fill, Shape, convolution, matmul, scaled
from kernel_matrix import difference, integers, normal, number
from torch import Tensor

from qbench.kernels.reference import products

EXACT = 2.0**53


def centred(codes: Tensor, zero: Tensor | None) -> Tensor:
    return codes.double() - (0 if zero is None else zero.double())


def float64(shape: Shape, fill: Fill) -> tuple[Tensor, Tensor, Tensor]:
    """PyTorch's convolution in float64 and, by autograd, its two gradients."""
    x, x_zero, w, w_zero, *_ = convolution("conv2d", shape, fill)
    e, e_zero = convolution("conv2d_input_grad", shape, fill)[:2]
    images, filters = centred(x, x_zero).requires_grad_(), centred(w, w_zero).requires_grad_()
    y = torch.nn.functional.conv2d(images, filters, None, shape.stride, shape.padding, shape.dilation, shape.groups)
    return y.detach(), *torch.autograd.grad(y, (images, filters), centred(e, e_zero))


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in (*shape.x, *shape.w)], ids=lambda s: s.label)
def test_convolution_is_the_float64_one(shape: Shape) -> None:
    fill = Fill(U8, None, 131.0, U8, None, 7.0)  # the error takes the place of the input's codes
    expected = float64(shape, fill)
    arguments = convolution("conv2d", shape, fill)
    assert torch.equal(products.conv2d(*arguments).double(), expected[0])
    gradient = convolution("conv2d_input_grad", shape, fill)
    assert torch.equal(products.conv2d_input_grad(*gradient).double(), expected[1])
    x, x_zero, _, _, *_ = arguments
    e, e_zero, *_ = gradient
    found = products.conv2d_weight_grad(x, x_zero, e, e_zero, list(shape.w), *shape.geometry, True)
    assert torch.equal(found.double(), expected[2])


TINY = Shape("tiny", (2, 4, 4, 5), 4, (2, 3), (2, 1), (1, 2), (1, 2), 2)


def loops(shape: Shape, x: np.ndarray, w: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    """One product per output, filter tap and channel, in Python integers; ``kind`` names the factor that is filled."""
    stride, padding, dilation = shape.stride, shape.padding, shape.dilation
    per_group, filters_per_group = shape.w[1], shape.filters // shape.groups
    out = {"y": np.zeros(y.shape, object), "x": np.zeros(x.shape, object), "w": np.zeros(w.shape, object)}[kind]
    for n, k, oh, ow in product(*map(range, y.shape)):
        for c, r, s in product(range(per_group), range(shape.taps[0]), range(shape.taps[1])):
            h = oh * stride[0] - padding[0] + r * dilation[0]
            v = ow * stride[1] - padding[1] + s * dilation[1]
            if not (0 <= h < x.shape[2] and 0 <= v < x.shape[3]):
                continue
            channel = k // filters_per_group * per_group + c
            if kind == "y":
                out[n, k, oh, ow] += int(x[n, channel, h, v]) * int(w[k, c, r, s])
            elif kind == "x":
                out[n, channel, h, v] += int(y[n, k, oh, ow]) * int(w[k, c, r, s])
            else:
                out[k, c, r, s] += int(x[n, channel, h, v]) * int(y[n, k, oh, ow])
    return out.astype(np.int64)


def as_numbers(codes: Tensor, zero: Tensor | None) -> np.ndarray:
    return codes.numpy().astype(np.int64) - (0 if zero is None else int(zero))


@pytest.mark.parametrize("fill", FILLS, ids=str)
def test_convolution_is_the_sum_over_every_tap(fill: Fill) -> None:
    x, x_zero, w, w_zero, *geometry, _ = convolution("conv2d", TINY, fill)
    nothing = np.zeros(TINY.e, object)
    expected = loops(TINY, as_numbers(x, x_zero), as_numbers(w, w_zero), nothing, "y")
    assert np.array_equal(products.conv2d(x, x_zero, w, w_zero, *geometry, True).numpy(), expected)

    e, e_zero, w, w_zero, shape, *geometry, _ = convolution("conv2d_input_grad", TINY, fill)
    nothing = np.zeros(TINY.x, object)
    expected = loops(TINY, nothing, as_numbers(w, w_zero), as_numbers(e, e_zero), "x")
    found = products.conv2d_input_grad(e, e_zero, w, w_zero, shape, *geometry, True)
    assert np.array_equal(found.numpy(), expected)

    x, x_zero, e, e_zero, shape, *geometry, _ = convolution("conv2d_weight_grad", TINY, fill)
    nothing = np.zeros(TINY.w, object)
    expected = loops(TINY, as_numbers(x, x_zero), nothing, as_numbers(e, e_zero), "w")
    found = products.conv2d_weight_grad(x, x_zero, e, e_zero, shape, *geometry, True)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("fill", FILLS, ids=str)
def test_matmul_is_the_sum_of_python_integers(fill: Fill) -> None:
    a, a_zero, b, b_zero, wide = matmul((3, 67, 2), fill)
    expected = as_numbers(a, a_zero).astype(object) @ as_numbers(b, b_zero).astype(object)
    assert products.matmul(a, a_zero, b, b_zero, wide).tolist() == expected.tolist()


def test_long_sums_are_exact() -> None:
    """Beyond int32, and beyond 2^53 where float64 ends: 2^22 products of 65535^2."""
    a = integers((1, LONG), U8, 255)
    assert products.matmul(a, None, a.t(), None, True).item() == LONG * 255**2
    x = integers((1, 2**22), torch.int16, 32767)
    zero = number(-32768.0)
    total = 2**22 * 65535**2
    assert total > EXACT
    assert products.matmul(x, zero, x.t(), zero, True).item() == total


def test_scaled_form_rounds_each_step_in_order() -> None:
    """The sum 16777219 rounds to 16777220; two products and the bias round once each."""
    a, b = torch.tensor([[127, 127, 127]]).to(S8), torch.tensor([[127], [1], [0]]).to(S8)
    total = 127 * 127 + 127
    scale, other, bias = number(0.3), number(1.7), torch.tensor([0.123])
    expected = np.float32(
        np.float32(np.float32(np.float32(total) * np.float32(0.3)) * np.float32(1.7)) + np.float32(0.123)
    )
    assert products.matmul_scaled(a, None, scale, b, None, other, bias).item() == float(expected)
    x = integers((1, 2**24 // 255), U8, 255)
    w = torch.ones((x.shape[1], 1), dtype=S8)
    w[0], w[1] = 2, 1
    big = int(x.long().flatten() @ w.long().flatten())
    assert products.matmul_scaled(x, None, number(1.0), w, None, number(1.0), None).item() == float(np.float32(big))


def test_scaled_convolution_is_its_unscaled_one_scaled() -> None:
    shape = SHAPES[0]
    arguments = scaled("conv2d", shape, Fill(U8, None, 131.0, S8, None, None), per_channel=True)
    x, x_zero, x_scale, w, w_zero, w_scale, bias, *geometry = arguments
    y, extremes = products.conv2d_scaled(*arguments)
    total = products.conv2d(x, x_zero, w, w_zero, *geometry, True).numpy().astype(np.float32)
    along = (1, -1, 1, 1)
    steps = total * x_scale.numpy() * w_scale.numpy().reshape(along) + bias.numpy().reshape(along)
    assert difference([torch.from_numpy(steps), torch.tensor([steps.min(), steps.max()])], [y, extremes]) == ""


def test_poisoned_scale_poisons_the_result() -> None:
    y, extremes = products.conv2d_scaled(*scaled("conv2d", SHAPES[0], FILLS[0], poisoned=True))
    assert y.isnan().all() and extremes.isnan().all()


def test_empty_convolution_has_extremes_of_zero() -> None:
    shape = Shape("none", (0, 3, 5, 5), 4, (3, 3))
    y, extremes = products.conv2d_scaled(*scaled("conv2d", shape, FILLS[0]))
    assert y.shape == (0, 4, 3, 3) and extremes.tolist() == [0.0, 0.0]


def test_poison_of_one_bias_shows_in_the_extremes() -> None:
    bias = normal((9,))
    bias[4] = torch.nan
    arguments = list(scaled("conv2d", SHAPES[0], FILLS[0]))
    arguments[6] = bias
    y, extremes = products.conv2d_scaled(*arguments)
    assert y[:, 4].isnan().all() and not y[:, 5].isnan().any()
    assert extremes.isnan().all()
