"""Matrix products, as convolutions of 1 x 1 images or as weight gradients, whichever suits the operands' memory."""

from __future__ import annotations

import torch
from torch import Tensor

from qbench.kernels.cuda import convolutions, weight_gradients
from qbench.kernels.cuda.convolutions import Factor
from qbench.kernels.cuda.operands import VECTOR, Digit, digits, packed_rows, padded, transposed_rows
from qbench.kernels.cuda.outcome import Outcome
from qbench.kernels.cuda.shapes import Shape


def multiply(a: Factor, b: Factor, outcome: Outcome) -> None:
    """a [M, K] times b [K, N], of any strides, into y [M, N]."""
    (rows, depth), columns = a[0].shape, b[0].shape[1]
    lefts, rights = digits(_dense(a[0]), a[1]), digits(_dense(b[0]), b[1])
    if all(_has_depth_outermost(digit.codes) for digit in [*(_turned(left) for left in lefts), *rights]):
        # A linear layer's weight gradient: the kernel that transposes as it loads needs no copies.
        shape = Shape(depth, (1, 1), columns, (1, 1), rows, 1, (1, 1), (1, 1), (0, 0), (1, 1))
        weight_gradients.run(rights, lefts, (b[1], a[1]), shape, outcome)
        return
    sources = [_depth_innermost(left.codes, left, left.zero) for left in lefts]
    filters = [_depth_innermost(right.codes.t(), right, None) for right in rights]
    convolutions.run(sources, filters, Shape.matrix(rows, depth, columns), outcome)


def _dense(x: Tensor) -> Tensor:
    """16-bit operands are taken apart element by element in memory order."""
    if x.dtype != torch.int16 or x.is_contiguous() or x.t().is_contiguous():
        return x
    return x.contiguous()


def _turned(digit: Digit) -> Digit:
    return Digit(digit.codes.t(), digit.zero, digit.shift)


def _has_depth_outermost(x: Tensor) -> bool:
    """Whether x [K, N] lies in memory as rows of N, in whole vectors."""
    return x.is_contiguous() and x.shape[1] % VECTOR == 0 and x.data_ptr() % VECTOR == 0


def _depth_innermost(x: Tensor, digit: Digit, fill: Tensor | None) -> Digit:
    """x [rows, depth] in memory as rows of padded(depth); the rest of a row is the zero point ``fill``, or 0."""
    (rows, depth), (row_stride, depth_stride) = x.shape, x.stride()
    if x.is_contiguous() and depth == padded(depth) and x.data_ptr() % VECTOR == 0:
        return Digit(x, digit.zero, digit.shift)
    if row_stride == 1 and depth_stride != 1:
        codes = transposed_rows(x, depth, rows, depth_stride, row_stride, fill)
    else:
        codes = packed_rows(x, rows, depth, row_stride, depth_stride, fill)
    return Digit(codes, digit.zero, digit.shift)
