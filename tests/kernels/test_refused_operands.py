"""What the public functions refuse, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from kernel_matrix import integers, normal, number

from qbench.kernels import blocks, bounded, direct, encoding, line_gradient, packing, passes, pooling, products, updates
from qbench.kernels.random import Key

U8, S8, S16 = torch.uint8, torch.int8, torch.int16
KEY = Key(1, 2, 3)

X, W = integers((1, 4, 6, 6), U8), integers((6, 4, 3, 3), S8)
A, B = integers((3, 4), U8), integers((4, 5), S8)
ONE, E = number(1.0), integers((1, 6, 4, 4), S8)
F, C = normal((2, 3, 4, 4)), integers((2, 3, 4, 4), U8)
THREE = normal((3,))
MASK = torch.zeros(12, dtype=U8)
DIRECT = (F, THREE, THREE, 128.0, 127.0, THREE, THREE, True)
SUMS, ROWS = normal((3, 3)).double(), torch.zeros((1, 3), dtype=torch.int64)
GRID = (0.1, -8.0, 7.0)
BYTES, SIX, AT = E.to(U8), normal((6,)), torch.arange(12)
LINE = (ONE, SIX, SIX.double(), SIX, AT)

WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: products.conv2d_s8_encoded(C, C, ONE, ONE, ONE, ONE, 9, True), ValueError, "bits must be from 1 to 8"),
    (lambda: products.conv2d_s8_encoded(C, C, ONE, ONE, THREE, ONE, 8, True), ValueError, "low must be one number"),
    (lambda: products.matmul_s8(A.float(), B), TypeError, "a must be uint8, int8 or int16"),
    (lambda: products.matmul_s8(A, B.int()), TypeError, "b must be uint8, int8 or int16"),
    (lambda: products.matmul_s8(A.numpy(), B), TypeError, "a must be a torch.Tensor, got ndarray"),
    (lambda: products.matmul_s8(A, B, a_zero=3.0), TypeError, "a_zero must be a torch.Tensor, got float"),
    (lambda: encoding.extremes([1.0, 2.0]), TypeError, "x must be a torch.Tensor, got list"),
    (lambda: products.matmul_s8(A, B.t()), ValueError, "columns of a must be rows of b"),
    (lambda: products.matmul_s8(A[0], B), ValueError, "a must have 2 dimensions"),
    (lambda: products.matmul_s8(A, B, a_zero=torch.tensor(3)), TypeError, "a_zero must be float32"),
    (lambda: products.matmul_s8(A, B, b_zero=torch.zeros(5)), ValueError, "b_zero must be one number"),
    (lambda: products.matmul_s8_scaled(A, B, torch.ones(3), ONE), ValueError, "a_scale must be one number"),
    (lambda: products.matmul_s8_scaled(A, B, ONE, torch.ones(4)), ValueError, "one value per channel"),
    (lambda: products.matmul_s8_scaled(A, B, ONE, ONE, bias=torch.ones(4)), ValueError, "bias must have one value"),
    (lambda: products.linear_s8_input_grad_scaled(A, B, ONE, torch.ones(5)), ValueError, "w_scale must be one number"),
    (lambda: products.linear_s8_weight_grad_scaled(A, A, ONE, torch.ones(4)), ValueError, "e_scale must be one number"),
    (lambda: products.conv2d_s8(X[0], W), ValueError, "x must have 4 dimensions"),
    (lambda: products.conv2d_s8(X, W, groups=2), ValueError, "does not fit input"),
    (lambda: products.conv2d_s8(X, W, groups=0), ValueError, "groups must be at least 1"),
    (lambda: products.conv2d_s8(X, W, stride=0), ValueError, "stride must be from 1 to 1073741824, got 0"),
    (lambda: products.conv2d_s8(X, W, padding=(1, -1)), ValueError, "padding must be from 0 to 1073741824"),
    (lambda: products.conv2d_s8(X, W, dilation=(1, 1, 1)), ValueError, "dilation must be one whole number or two"),
    (lambda: products.conv2d_s8(X, W, stride=1.5), ValueError, "stride must be one whole number .*, got 1.5"),
    (lambda: products.conv2d_s8(X, W, padding="12"), ValueError, "padding must be one whole number .*, got '12'"),
    (lambda: products.conv2d_s8(X, W, stride=2**30 + 1), ValueError, "stride must be from 1 to .*, got 1073741825"),
    (lambda: far_apart("conv2d_s8"), ValueError, "has 160009600144 elements; at most 2147483647 are allowed"),
    (lambda: far_apart("conv2d_s8_input_grad"), ValueError, "160009600144 elements; at most"),
    (lambda: far_apart("conv2d_s8_weight_grad"), ValueError, "with padding \\(100000, 100000\\) has 160009600144"),
    (lambda: products.conv2d_s8(X, W, dilation=3), ValueError, "no window of weight"),
    (lambda: products.conv2d_s8_input_grad(E, W, [1, 4, 6, 7]), ValueError, "give an output of"),
    (lambda: products.conv2d_s8_input_grad(E, W, [4, 6, 6]), ValueError, "4 dimensions"),
    (lambda: products.conv2d_s8_weight_grad(X, E, [6, 4, 3, 2]), ValueError, "give an output of"),
    (lambda: of_line(x=X.to(S8)), TypeError, "x must be uint8, got int8"),
    (lambda: of_line(e=E), TypeError, "e must be uint8, got int8"),
    (lambda: of_line(e=BYTES[..., :3]), ValueError, "e has shape \\(1, 6, 4, 3\\), but .* give an output of"),
    (lambda: of_line(weight_shape=[6, 4, 3]), ValueError, "input and weight have 4 dimensions"),
    (lambda: of_line(stride=0), ValueError, "stride must be from 1 to 1073741824, got 0"),
    (lambda: of_line(groups=0), ValueError, "groups must be at least 1, got 0"),
    (lambda: of_line(x_zero=SIX), ValueError, "x_zero must be one number"),
    (lambda: of_line(x_scale=ONE.double()), TypeError, "x_scale must be float32, got torch.float64"),
    (lambda: of_line(x_scale=SIX), ValueError, "x_scale must be one number"),
    (lambda: of_line(slope=SIX.double()), TypeError, "slope must be float32, got float64"),
    (lambda: of_line(slope=SIX[:5]), ValueError, "slope must have one value per channel, \\[6\\], got shape \\(5,\\)"),
    (lambda: of_line(mean=SIX), TypeError, "mean must be float64, got float32"),
    (lambda: of_line(mean=ONE.double()), ValueError, "mean must have one value per channel, \\[6\\], got shape \\(\\)"),
    (lambda: of_line(at=AT[:0].int()), TypeError, "at must be int64, got int32"),
    (lambda: of_line(at=AT[:6]), ValueError, "at must be a list of as many .* 6 filters, twice, got shape \\(6,\\)"),
    (lambda: of_line(at=AT.view(2, 6)), ValueError, "at must be a list of .*, got shape \\(2, 6\\)"),
    (lambda: of_line(pull=SIX.double()), TypeError, "pull must be float32, got float64"),
    (lambda: of_line(pull=SIX[:5]), ValueError, "pull must have one value per channel, \\[6\\], got shape \\(5,\\)"),
    (lambda: line_gradient.linear_s8_weight_grad_line(A, BYTES, *LINE), ValueError, "x and e must have 2 dimensions"),
    (lambda: line_gradient.linear_s8_weight_grad_line(X, A, *LINE), ValueError, "must have 2 dimensions, got shapes"),
    (lambda: encoding.extremes(C), TypeError, "x must be float32"),
    (lambda: encoding.encode_affine(F, ONE, ONE, 25, True), ValueError, "bits must be from 1 to 24"),
    (lambda: encoding.encode_affine(F, ONE, THREE, 8, True), ValueError, "low has shape"),
    (lambda: encoding.encode_affine(F, ONE, ONE, 8, True, [1, 2, 3]), ValueError, "a key is"),
    (lambda: encoding.encode_affine(F, ONE, ONE, 8, True, [1.5, 2, 3, 0]), TypeError, "a key is a Key or its four"),  # type: ignore[list-item]
    (lambda: encoding.encode_affine(F, ONE, ONE, 8, True, Key(1.5, 2, 3)), TypeError, "a key is a Key or its four"),  # type: ignore[arg-type]
    (lambda: encoding.encode_affine(F, ONE, ONE, 8, True, True), TypeError, "four whole numbers, got True"),  # type: ignore[arg-type]
    (lambda: scaled(kind="log"), ValueError, "kind must be one of"),
    (lambda: scaled(rounding="up"), ValueError, "rounding must be one of"),
    (lambda: scaled(rounding="stochastic"), ValueError, "a key goes with stochastic rounding"),
    (lambda: scaled(key=KEY), ValueError, "a key goes with stochastic rounding"),
    (lambda: scaled(dtype=U8), TypeError, "codes must be int8, int16 or int32"),
    (lambda: scaled(magnitude=THREE), ValueError, "magnitude must be one number .* or a range \\[2\\]"),
    (lambda: scaled(magnitude=THREE[:2], kind="fixed"), ValueError, "must be one number \\(0 dimensions\\), got"),
    (lambda: scaled(magnitude=ONE.double()), TypeError, "magnitude must be float32, got torch.float64"),
    (lambda: encoding.encode_channels(C, 127, None, S8), TypeError, "x must be float32"),
    (lambda: encoding.encode_channels(ONE, 127, None, S8), ValueError, "x must have at least one dimension"),
    (lambda: encoding.encode_channels(F, 127, None, U8), TypeError, "codes must be int8, int16 or int32"),
    (lambda: encoding.encode_channels(F, 128, None, S8), ValueError, "top must be from 1 to 127 for torch.int8"),
    (lambda: encoding.encode_channels(F, 0, None, S16), ValueError, "top must be from 1 to 32767"),
    (lambda: encoding.encode_channels(F, 2**24 + 1, None, torch.int32), ValueError, "top must be from 1 to 16777216"),
    (lambda: encoding.encode_channels(F, 127, [1, 2, 3], S8), ValueError, "a key is"),
    (lambda: encoding.decode_channels(C, THREE.view(3, 1, 1, 1)), TypeError, "codes must be int8 or int16 or int32"),
    (lambda: encoding.decode_channels(W, SIX), ValueError, "scale must have one value for each of the first"),
    (lambda: encoding.decode_channels(W, SIX.double().view(6, 1, 1, 1)), TypeError, "scale must be float32"),
    (lambda: encoding.decode_channels(ONE.to(S8), ONE), ValueError, "scale must have one value for each"),
    (lambda: rounded(x=C), TypeError, "x must be float32"),
    (lambda: rounded(kind="log"), ValueError, "kind must be one of"),
    (lambda: rounded(key=KEY), ValueError, "a key goes with stochastic rounding"),
    (lambda: rounded(dtype=U8), TypeError, "codes must be int8, int16 or int32"),
    (lambda: rounded(magnitude=THREE), ValueError, "magnitude must be one number .* or a range \\[2\\]"),
    (lambda: encoding.encode_flag(F, THREE, 8), ValueError, "magnitude must be one number .* or a range"),
    (lambda: encoding.encode_flag(F, ONE, 9), ValueError, "bits must be from 1 to 8"),
    (lambda: encoding.encode_binary(F, THREE), ValueError, "scale must be one number"),
    (lambda: encoding.encode_levels(F, torch.zeros(256)), ValueError, "at most 255"),
    (lambda: encoding.look_up(C, torch.zeros(257)), ValueError, "1 to 256"),
    (lambda: encoding.look_up(C.long(), THREE), TypeError, "codes must be uint8"),
    (lambda: encoding.decode(F, ONE), TypeError, "codes must be"),
    (lambda: passes.chunk_statistics(C, 5), ValueError, "chunks must divide the 32 rows"),
    (lambda: passes.affine_view(C, THREE[:2], THREE, True), ValueError, "slope must have one value per channel"),
    (lambda: passes.affine_view(C.to(S8), THREE, THREE, True), TypeError, "codes must be uint8"),
    (lambda: passes.affine_view(C, THREE, THREE, True, F[:1]), ValueError, "trunk has shape"),
    (lambda: passes.affine_view(C[0], THREE, THREE, True), ValueError, "must be \\[N, C\\]"),
    (lambda: passes.view_extremes(C, THREE, THREE, True, torch.tensor([1])), ValueError, "at and values go together"),
    (lambda: passes.view_extremes(C, THREE, THREE, True, torch.tensor([3, 96, 5]), THREE), ValueError, "got 3 to 96"),
    (lambda: passes.view_extremes(C, THREE, THREE, True, torch.tensor([3, -1, 5]), THREE), ValueError, "got -1 to 5"),
    (lambda: passes.encode_affine_view(C, THREE, THREE, True, ONE, ONE, 9, True), ValueError, "from 1 to 8"),
    (lambda: view_codes(kind="log"), ValueError, "kind must be one of"),
    (lambda: passes.encode_view_gradient_(F, C, THREE, THREE, True, ONE, ONE, 9, True), ValueError, "from 1 to 8"),
    (lambda: passes.rectify(C), TypeError, "x must be float32"),
    (lambda: passes.rectify(F, C), TypeError, "trunk must be float32"),
    (lambda: passes.rectify(F, F[:1]), ValueError, "trunk has shape"),
    (lambda: passes.join_gradients(C, ONE, F, None), TypeError, "codes must be int8 or int16"),
    (lambda: passes.join_gradients(C.to(S8), THREE, F, None), ValueError, "scale must be one number"),
    (lambda: passes.join_gradients(C.to(S8), ONE, C.to(S8), None), TypeError, "g must be float32"),
    (lambda: passes.join_gradients(C.to(S8), ONE, F[:1], None), ValueError, "g has shape"),
    (lambda: passes.join_gradients(C.to(S8), ONE, F, torch.zeros(11, dtype=U8)), ValueError, "has 12 bytes"),
    (lambda: passes.apply_mask(F, torch.zeros(11, dtype=U8)), ValueError, "has 12 bytes"),
    (lambda: passes.view_gradient_extremes(F[:1], C, THREE, THREE, True), ValueError, "g has shape"),
    (lambda: passes.moments(C), TypeError, "x must be float32"),
    (lambda: passes.move_average_(THREE.double(), THREE, 0.1), TypeError, "average must be float32"),
    (lambda: passes.move_average_(THREE, THREE.int(), 0.1), TypeError, "value must be float32 or float64"),
    (lambda: passes.move_average_(THREE, ONE, 0.1), ValueError, "value has shape \\(\\) but average has \\(3,\\)"),
    (lambda: passes.move_average_(F[:, 0, 0], F[:, 0, 0], 0.1), ValueError, "average is overwritten, so it must be"),
    (lambda: passes.move_average_(THREE, THREE, 1.1), ValueError, "weight must be from 0 to 1, got 1.1"),
    (lambda: direct_view(x=C), TypeError, "x must be float32"),
    (lambda: direct_view(x=F[0]), ValueError, "x must be \\[N, C\\]"),
    (lambda: direct_view(slope=THREE[:2]), ValueError, "slope must have one value per channel"),
    (lambda: direct_view(top=0.5), ValueError, "top must be a whole number from 1"),
    (lambda: direct_view(top=1.5), ValueError, "top must be a whole number from 1"),
    (lambda: direct_view(top=2.0**25), ValueError, "top must be a whole number from 1"),
    (lambda: direct_view(trunk=F[:1]), ValueError, "trunk has shape"),
    (lambda: direct.encode_direct_view(*DIRECT, 0.1, -1.0, 1.0, U8), TypeError, "codes must be int8, int16 or int32"),
    (lambda: direct.direct_gradient_sums(C.to(S8), None, *DIRECT), TypeError, "g without a scale must be float32"),
    (lambda: direct.direct_gradient_sums(C, ONE, *DIRECT), TypeError, "g with a scale must be int8 or int16"),
    (lambda: direct.direct_gradient_sums(C.to(S8), THREE, *DIRECT), ValueError, "g_scale must be one number"),
    (lambda: direct.direct_gradient_sums(F[:1], None, *DIRECT), ValueError, "g has shape"),
    (lambda: direct.direct_gradient(F, None, *DIRECT, THREE, THREE, ONE), ValueError, "c must have one value"),
    (lambda: bounded_values(y=C), TypeError, "y must be float32"),
    (lambda: bounded_values(limit=0.0), ValueError, "limit must be positive, got 0.0"),
    (lambda: bounded_values(limit=float("nan")), ValueError, "limit must be positive, got nan"),
    (lambda: bounded_values(trunk=C), TypeError, "trunk without a scale must be float32"),
    (lambda: bounded_values(trunk=C, trunk_scale=ONE), TypeError, "trunk with a scale must be int8 or int16"),
    (lambda: bounded_values(trunk_scale=ONE), ValueError, "trunk and its scale go together"),
    (lambda: bounded_values(trunk=F[:1]), ValueError, "trunk has shape"),
    (lambda: bounded.encode_bounded(F, 1.0, None, None, True, 1.0, 1.0, 0.0, 1.0, U8), TypeError, "int16 or int32"),
    (lambda: bounded_error(g=C), TypeError, "g must be float32"),
    (lambda: bounded_error(joined=C.to(S8)), ValueError, "joined and its scale go together"),
    (lambda: bounded_error(joined=C.to(S8)[:1], joined_scale=ONE), ValueError, "joined has shape"),
    (lambda: bounded_error(joined=C.to(S8), joined_scale=THREE), ValueError, "joined_scale must be one number"),
    (lambda: bounded_error(passed=torch.zeros(11, dtype=U8)), ValueError, "has 12 bytes"),
    (lambda: bounded_error(dtype=U8), TypeError, "codes must be int8, int16 or int32"),
    (lambda: passes.level_line(THREE, THREE, THREE, THREE, 9, 0.1), TypeError, "mean must be float64"),
    (lambda: passes.level_line(SUMS, SUMS, THREE, THREE, 9, 0.1), ValueError, "mean must have one value"),
    (lambda: passes.level_line(*SUMS[:2], THREE[:2], THREE, 9, 0.1), ValueError, "weight must have one value"),
    (lambda: passes.level_gradient_line(SUMS, 3, THREE, THREE), ValueError, "sums must be \\[2, C\\]"),
    (lambda: passes.level_gradient_line(SUMS[:2].float(), 3, THREE, THREE), TypeError, "sums must be float64"),
    (lambda: direct_line(grids=[1.0] * 5), ValueError, "three grids have 6 numbers, got 5"),
    (lambda: direct_line(mean=THREE), TypeError, "mean must be float64"),
    (lambda: direct_line(mean=F.double()), ValueError, "mean must have one value"),
    (lambda: direct_line(weight=THREE[:2]), ValueError, "weight must have one value"),
    (lambda: direct.direct_gradient_line(SUMS[:2], 3, 1.0, *[THREE] * 4), ValueError, "sums must be \\[3, C\\]"),
    (lambda: direct.direct_gradient_line(SUMS.float(), 3, 1.0, *[THREE] * 4), TypeError, "sums must be float64"),
    (lambda: updates.sgd_on_grid_(C, F, None, 1, 0, 0, False, True, *GRID, "nearest"), TypeError, "int8 or int16"),
    (lambda: sgd(scale=0.0), ValueError, "must be positive and finite"),
    (lambda: sgd(rounding="ternary"), ValueError, "rounding must be one of"),
    (lambda: sgd(rounding="binary_stochastic"), ValueError, "a key goes with"),
    (lambda: sgd(momentum=torch.zeros(2, 3, 4, 4)), ValueError, "one memory layout"),
    (lambda: sgd(codes=W[:, :, ::2]), ValueError, "codes must be dense"),
    (lambda: updates.adam_on_grid_(C.to(S8), F, F, F, 1, 0, 0, 0, 0, 0, *GRID, "nearest"), ValueError, "counts from 1"),
    (lambda: momentum(levels=0), ValueError, "levels must be"),
    (lambda: shift(codes=C), TypeError, "codes must be int8 or int16"),
    (lambda: shift(scale=THREE), ValueError, "scale must be one number"),
    (lambda: shift(eta=0.0), ValueError, "eta must be positive and finite, got 0.0"),
    (lambda: shift(limit=128), ValueError, "limit must be from 0 to 127 for torch.int8, got 128"),
    (lambda: updates.poison_(THREE, F), ValueError, "scale must be one number"),
    (lambda: updates.poison_(number(1.0), C), TypeError, "x must be float32"),
    (lambda: packing.pack_bits(C, 5), ValueError, "bits must be from 1 to 4"),
    (lambda: packing.unpack_bits(C.flatten(), 5, [7]), ValueError, "bits must be from 1 to 4"),
    (lambda: packing.pack_bits(F, 1), TypeError, "codes must be uint8"),
    (lambda: packing.unpack_bits(C.flatten(), 1, [7]), ValueError, "take 1 bytes"),
    (lambda: pooling.max_pool2d(F, 3, 2, 2), ValueError, "at most half the kernel"),
    (lambda: pooling.max_pool2d(F, 17), ValueError, "at most 256 elements"),
    (lambda: pooling.max_pool2d(F, 5), ValueError, "no window of"),
    (lambda: pooling.max_pool2d(F[:, :, :0], 2, 1, 1), ValueError, "no window of .* fits in x"),
    (lambda: pooling.max_pool2d(F[..., :0], 2, 1, 1), ValueError, "no window of .* fits in x"),
    (lambda: pooling.max_pool2d(F[0], 2), ValueError, "x must be"),
    (lambda: pooling.max_pool2d_view(F, None, THREE, THREE, True, 2), TypeError, "codes must be uint8"),
    (lambda: pooling.max_pool2d_view(C, None, THREE, THREE, True, 5), ValueError, "no window of .* fits in codes"),
    (lambda: pooling.max_pool2d_view(C, None, THREE[:2], THREE, True, 2), ValueError, "slope must have one value"),
    (lambda: pooling.max_pool2d_view(C, None, THREE, THREE[:2], True, 2), ValueError, "offset must have one value"),
    (lambda: pooling.max_pool2d_view(C, F, THREE, THREE, True, 2), ValueError, "table must be a list"),
    (lambda: pooling.max_pool2d_view(C[0], None, THREE, THREE, True, 2), ValueError, "codes must be \\[N, C, H, W\\]"),
    (lambda: pooling.max_pool2d_direct_view(*DIRECT, 5), ValueError, "no window of .* fits in x"),
    (lambda: pooling.max_pool2d_direct_view(C, *DIRECT[1:], 2), TypeError, "x must be float32"),
    (lambda: pooling.max_pool2d_direct_view(*DIRECT[:2], THREE[:2], *DIRECT[3:], 2), ValueError, "inverse must have"),
    (lambda: pooling.max_pool2d_backward(F, C, [2, 3, 4, 4], 2), ValueError, "gives"),
    (lambda: pooling.max_pool2d_backward(F, C, [3, 8, 8], 2), ValueError, "input_shape of four numbers, .*, got \\(3,"),
    (lambda: Key(1, 2, 3, "x").words(), ValueError, "generator must be one of philox, hash, got 'x'"),  # type: ignore[arg-type]
    (lambda: encoding.encode_binary(F, ONE, [1, 2, 3, 2]), ValueError, "generator must be 0 .* or 1 .*, got 2"),
    (lambda: range_norm(y=normal((3, 4, 5))), ValueError, "y must be \\[N, C\\] or .*, got shape \\(3, 4, 5\\)"),
    (lambda: blocks.encode_ranged(F, 25, True), ValueError, "bits must be from 1 to 24, got 25"),
    (lambda: range_norm(y=F[:0]), ValueError, "y must have elements"),
    (lambda: range_norm(chunks=5), ValueError, "chunks must divide the 32 rows"),
    (lambda: range_norm(low=THREE), ValueError, "low must be one number"),
    (lambda: range_norm(high=ONE.double()), TypeError, "high must be float32"),
    (lambda: norm_gradient(codes=C.to(S8)), TypeError, "normalised must be uint8"),
    (lambda: norm_gradient(codes=C[0]), ValueError, "normalised must be \\[N, C\\]"),
    (lambda: norm_gradient(codes=C[:0]), ValueError, "normalised must have elements"),
    (lambda: norm_gradient(codes=C[:, :0]), ValueError, "normalised must have elements, got shape \\(2, 0, 4, 4\\)"),
    (lambda: norm_gradient(bits=9), ValueError, "bits must be from 1 to 8, got 9"),
    (lambda: norm_gradient(g=pooling.Pooled(F, C, 2), mask=C.flatten()[:12]), ValueError, "goes with no mask"),
    (lambda: norm_gradient(step=THREE), ValueError, "step must be one number"),
    (lambda: norm_gradient(high_at=torch.zeros((2, 3)).long()), ValueError, "high_at has shape \\(2, 3\\) but low_at"),
    (lambda: error_pair(codes=C[0]), ValueError, "codes must be \\[N, C\\]"),
    (lambda: error_pair(at=torch.zeros((1, 1)).long()), ValueError, "at must be a list"),
    (lambda: error_pair(values=THREE), ValueError, "values has shape \\(3,\\) but at"),
    (lambda: error_pair(rounding="up"), ValueError, "rounding must be one of"),
    (lambda: error_pair(rounding="stochastic"), ValueError, "a key goes with stochastic rounding"),
    (lambda: error_pair(dtype=U8), TypeError, "codes must be int8, int16 or int32"),
]  # fmt: skip


def scaled(
    kind: str = "linear",
    rounding: str = "nearest",
    key: Key | None = None,
    dtype: torch.dtype = S8,
    magnitude: torch.Tensor = ONE,
) -> Any:
    return encoding.encode_scaled(F, magnitude, kind, 127.0, -127.0, 127.0, rounding, key, dtype)


def rounded(x: torch.Tensor = F, key: Key | None = None, **other: Any) -> Any:
    given = {"magnitude": ONE, "kind": "linear", "dtype": S8} | other
    return blocks.round_scaled(
        x, given["magnitude"], given["kind"], 127.0, -127.0, 127.0, "nearest", key, given["dtype"]
    )


def far_apart(name: str) -> Any:
    """Taps so far apart that the padded image leaves int32."""
    factors = {"conv2d_s8": (X, W), "conv2d_s8_input_grad": (E, W, X.shape), "conv2d_s8_weight_grad": (X, E, W.shape)}
    return getattr(products, name)(*factors[name], padding=100_000, dilation=100_000)


def of_line(**other: Any) -> Any:
    names = ("x", "e", "weight_shape", "x_scale", "slope", "mean", "pull", "at")
    operands = dict(zip(names, (X, BYTES, W.shape, *LINE), strict=True))
    return line_gradient.conv2d_s8_weight_grad_line(**{**operands, **other})


def view_codes(kind: str) -> Any:
    return passes.encode_scaled_view(C, THREE, THREE, True, ONE, kind, 1.0, -1.0, 1.0, "nearest", None, S8)


def range_norm(y: torch.Tensor = F, low: torch.Tensor = ONE, high: torch.Tensor = ONE, chunks: int = 1) -> Any:
    return blocks.range_norm(y, low, high, 8, None, chunks, THREE, THREE, 1.0, 1e-5, True)


def norm_gradient(
    codes: torch.Tensor = C,
    step: torch.Tensor = ONE,
    high_at: torch.Tensor = ROWS,
    g: torch.Tensor | pooling.Pooled = F,
    mask: torch.Tensor | None = None,
    bits: int = 8,
) -> Any:
    vectors, doubles = (THREE, THREE), (SUMS[0], SUMS[1])
    codes = codes if codes.dim() != 4 else codes.clone(memory_format=torch.channels_last)
    return blocks.range_norm_gradient_(
        g, mask, codes, *vectors, True, bits, None, step, *doubles, THREE, 1.0, ROWS, high_at
    )


def error_pair(
    codes: torch.Tensor = C,
    at: torch.Tensor = ROWS[0, :1],
    values: torch.Tensor = THREE[:1],
    rounding: str = "nearest",
    dtype: torch.dtype = S8,
) -> Any:
    return blocks.encode_error_pair(codes, THREE, THREE, at, values, 8, None, 127.0, rounding, None, dtype)


def direct_view(
    x: torch.Tensor = F, top: float = 127.0, slope: torch.Tensor = THREE, trunk: torch.Tensor | None = None
) -> Any:
    return direct.direct_view(x, THREE, THREE, 128.0, top, slope, THREE, True, trunk)


def bounded_values(
    y: torch.Tensor = F, trunk: torch.Tensor | None = None, trunk_scale: torch.Tensor | None = None, limit: float = 1.0
) -> Any:
    return bounded.bounded_values(y, 0.5, trunk, trunk_scale, True, limit)


def bounded_error(
    g: torch.Tensor = F,
    joined: torch.Tensor | None = None,
    joined_scale: torch.Tensor | None = None,
    passed: torch.Tensor = MASK,
    dtype: torch.dtype = S8,
) -> Any:
    return bounded.encode_bounded_error(g, joined, joined_scale, passed, MASK, 128.0, 127.0, dtype)


def direct_line(mean: torch.Tensor = SUMS[0], weight: torch.Tensor = THREE, grids: Sequence[float] = (1.0,) * 6) -> Any:
    return direct.direct_line(mean, SUMS[1].abs(), weight, THREE, grids, 128.0, 1e-5)


def sgd(
    codes: torch.Tensor | None = None,
    momentum: torch.Tensor | None = None,
    scale: float = 0.1,
    rounding: str = "nearest",
) -> None:
    weight = C.to(S8) if codes is None else codes
    updates.sgd_on_grid_(weight, F, momentum, 1, 0, 0, False, True, scale, -8, 7, rounding)


def shift(
    codes: torch.Tensor | None = None, scale: torch.Tensor | None = None, eta: float = 8.0, limit: int = 127
) -> Any:
    weight = C.to(S8) if codes is None else codes
    return updates.shift_step_(weight, number(1.0) if scale is None else scale, F, eta, limit)


def momentum(levels: int) -> None:
    updates.quantized_momentum_(C.int(), C.int(), ONE.clone(), F, 0.0, levels, 1, 26, 2**23)


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_refuses(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_blocks_refuse_codes_beyond_a_byte_and_other_channels() -> None:
    y, ends, vector = torch.zeros((4, 3)), (number(-1.0), number(1.0)), torch.ones(3)
    with pytest.raises(ValueError, match="bits must be from 1 to 8, got 9"):
        blocks.range_norm(y, *ends, 9, None, 1, vector, vector, 1.0, 1e-5, False)
    with pytest.raises(ValueError, match=r"bias must have one value per channel, \[3\], got shape \(2,\)"):
        blocks.range_norm(y, *ends, 8, None, 1, vector, torch.ones(2), 1.0, 1e-5, False)
    codes, at = torch.zeros((4, 3), dtype=U8), torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="bits must be from 1 to 8, got 12"):
        blocks.encode_error_pair(codes, vector, vector, at, torch.zeros(0), 12, None, 127.0, "nearest", None, S8)
