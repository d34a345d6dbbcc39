"""Cases of every operator on shapes that a seed draws: what nobody chose.

The listed cases stand for what somebody thought of. Loops that work on vectors, groups of vectors and tiles go wrong
where their lengths, the channels and the rows meet in some particular way.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from random import Random
from typing import Any

import kernel_cases_blocks as blocks
import kernel_cases_bounded as bounded
import kernel_cases_direct as direct
import kernel_cases_line_gradient as line_gradient
import kernel_cases_passes as passes
import kernel_cases_products as products
import kernel_cases_range_norm as range_norm
import kernel_cases_updates as updates
import torch
from kernel_cases_encoding import KEYS, magnitude_of
from kernel_cases_products import RANDOM, S8, S16, U8, Fill, Shape
from kernel_matrix import Case, integers, normal, number
from torch import Tensor

from qbench.kernels.reference.encode import extremes

WIDTHS = (1, 2, 3, 5, 8, 13, 16, 17, 24, 31, 32, 33, 40, 48, 56, 64, 65, 80, 96, 112, 130)
"""Of channels: around and between the lengths of vectors and groups of them."""

FILLS = (
    *RANDOM,
    Fill(S16, None, None, S8, None, None),
    Fill(S16, 1400, None, S16, None, None),
    Fill(U8, 255, None, S8, -128, None),
)

Drawn = tuple[str, tuple[Any, ...], float]
"""An operator, its arguments, and the tolerance of a Case."""


def shape_of(draw: Random) -> tuple[int, ...]:
    """Two or four dimensions; images of one channel or one pixel often: nothing else decides their memory layout."""
    if draw.random() < 0.3:
        return 4 * draw.randint(1, 20) - draw.randint(0, 3), draw.choice(WIDTHS)
    channels, size = draw.choice(WIDTHS), (draw.randint(1, 12), draw.randint(1, 12))
    if draw.random() < 0.2:
        channels, size = draw.choice(((1, size), (channels, (1, 1))))
    return draw.randint(1, 5), channels, *size


def pooling_of(draw: Random) -> tuple[tuple[int, ...], list[int], list[int], list[int]]:
    """An image, and the kernel, stride and padding of a pooling that it has room for."""
    kernel = [draw.randint(1, 4), draw.randint(1, 4)]
    image = (draw.randint(1, 3), draw.choice(WIDTHS), *(size + draw.randint(0, 9) for size in kernel))
    return image, kernel, [draw.randint(1, 3), draw.randint(1, 3)], [draw.randint(0, size // 2) for size in kernel]


def convolution_of(draw: Random) -> Shape:
    groups = draw.choice((1, 1, 1, 2, 3))
    taps = draw.choice(((1, 1), (1, 1), (3, 3), (3, 3), (1, 2), (2, 3), (5, 5)))
    dilation = draw.choice(((1, 1), (1, 1), (2, 1)))
    padding = (0, 0) if draw.random() < 0.4 else tuple(draw.randint(0, size) for size in taps)
    # Few outputs often: loops over rows, columns and images become one another there.
    size = (dilation[i] * (taps[i] - 1) + 1 + draw.randint(0, draw.choice((2, 12))) for i in range(2))
    each, filters = (groups * draw.randint(1, draw.choice((3, 40))) for _ in range(2))
    stride = (1, 1) if draw.random() < 0.6 else (draw.randint(1, 3), draw.randint(1, 3))
    return Shape("", (draw.randint(1, 3), each, *size), filters, taps, stride, padding, dilation, groups)  # type: ignore[arg-type]


def of_products(draw: Random) -> Iterator[Drawn]:
    shape, fill = convolution_of(draw), draw.choice(FILLS)
    for kind in products.KINDS:
        yield kind, products.convolution(kind, shape, fill), 0
        per_channel = draw.random() < 0.5
        yield f"{kind}_scaled", products.scaled(kind, shape, fill, per_channel=per_channel), 0
    yield "add_conv2d_input_grad_", products.added(shape, fill), 0
    yield line_gradient.OP, line_gradient.line(shape, draw.choice(line_gradient.FILLS), chunks_of(draw, shape.e)), 0
    yield "conv2d_encoded", products.encoded(shape, fill, draw.choice((8, 4)), draw.random() < 0.5), 0
    size, layout = (draw.randint(1, 70), draw.randint(1, 140), draw.randint(1, 70)), draw.choice(products.LAYOUTS)
    yield "matmul", products.matmul(size, fill, layout), 0
    yield "matmul_scaled", products.matmul_scaled(size, fill, layout, per_column=draw.random() < 0.5), 0


def of_encoding(draw: Random) -> Iterator[Drawn]:
    x = normal(shape_of(draw) if draw.random() < 0.5 else (draw.randint(1, 3000),), seed=draw.randint(0, 999))
    key, (low, high) = draw.choice(list(KEYS.values())), extremes(x)
    rounding = "nearest" if key is None else "stochastic"
    codes, table = integers(tuple(x.shape), U8), passes.table_of(256)
    bits = draw.randint(1, 4)
    yield "extremes", (x,), 0
    yield "encode_affine", (x, low, high, draw.choice((8, 5, 12)), True, key), 0
    for kind, dtype, top in (("linear", S8, 127.0), ("power", S16, 32767.0), ("fixed", torch.int32, 2.0**24)):
        magnitude = number(2.0**-7) if kind == "fixed" else draw.choice((magnitude_of, extremes))(x)
        yield "encode_scaled", (x, magnitude, kind, top, -top, top, rounding, key, dtype), 0
        yield "round_scaled", (x, magnitude, kind, top, -top, top, rounding, key, dtype), 0
    yield "encode_channels", (x, 127, key, S8), 0
    yield "decode_channels", (integers(tuple(x.shape), S8), normal((len(x), *[1] * (x.dim() - 1)))), 0
    yield "encode_flag", (x, draw.choice((magnitude_of, extremes))(x), 8), 0
    yield "encode_binary", (x, magnitude_of(x), key), 0
    yield "encode_levels", (x, passes.table_of(15)), 0
    yield "look_up", (codes, table), 0
    yield "decode", (codes, number(0.07), draw.choice((None, number(131.0)))), 0
    packable = passes.packable(tuple(x.shape), bits)
    yield "pack_bits", (packable, bits), 0
    yield "unpack_bits", (passes.pack_bits(packable, bits), bits, list(x.shape)), 0


def of_views(draw: Random) -> Iterator[Drawn]:
    shape, relu, points = shape_of(draw), draw.random() < 0.5, draw.random() < 0.5
    key, trunk, size = draw.choice(list(KEYS.values())), draw.choice(("none", "normal")), draw.choice((2, 16, 256))
    rounding = "nearest" if key is None else "stochastic"
    yield "chunk_statistics", passes.statistics(shape, None, chunks_of(draw, shape)), 0
    yield "view_extremes", passes.extremes_of_view(shape, relu, points), 0
    yield "encode_affine_view", passes.affine_of_view(shape, relu, key, points, 8), 0
    yield "encode_scaled_view", passes.scaled_of_view(shape, relu, "linear", rounding, key, S16, points), 0
    yield "affine_view", passes.finished(shape, relu, trunk), 0
    yield "apply_mask", passes.masked(shape), 0
    yield "rectify", passes.to_rectify(shape, trunk), 0
    wanted = {name: draw.random() < 0.5 for name in ("has_g", "has_mask")}
    yield "join_gradients", passes.joined(shape, draw.choice((S8, S16)), **wanted), 0
    yield "view_gradient_extremes", passes.gradient(shape, relu), 0
    yield "encode_view_gradient_", passes.encoded_gradient(shape, relu, key), 0
    yield "level_line", passes.norm_vectors(shape[1], draw.randint(1, 999)), 0
    yield "level_gradient_line", passes.gradient_vectors(shape[1], draw.randint(1, 999)), 0
    value = normal((shape[1],), seed=draw.randint(0, 999))
    yield "move_average_", (normal((shape[1],)), draw.choice((value, value.double() / 3)), draw.random()), 0
    yield "moments", (normal(shape, seed=draw.randint(0, 999)),), passes.SUMS_TOLERANCE
    yield "encode_normalised_levels", passes.normalised(shape, draw.choice((1, 15, 255))), 0
    yield "level_view", (*passes.levels(shape, relu, size), passes.trunk_of(shape, trunk)), 0
    yield "level_gradient_sums", passes.level_gradient(shape, relu, size)[:-3], passes.SUMS_TOLERANCE
    yield "level_gradient", passes.level_gradient(shape, relu, size), 0


def of_blocks(draw: Random) -> Iterator[Drawn]:
    shape, relu, masked = shape_of(draw), draw.random() < 0.5, draw.random() < 0.5
    key, chunks, kind = draw.choice(list(KEYS.values())), chunks_of(draw, shape), draw.choice(range_norm.KINDS)
    yield "range_line", range_norm.line(shape, kind, chunks, relu), 0
    yield "range_gradient_line", range_norm.gradient_line(shape, kind, chunks), 0
    yield "encode_ranged", blocks.ranged(shape, 8, True, key), 0
    yield "range_norm", blocks.norm(shape, chunks, relu, key), 0
    yield "range_norm_gradient_", blocks.gradient(shape, kind, chunks, relu, key, masked=masked), 0
    rounding = "nearest" if key is None else "stochastic"
    yield "encode_error_pair", blocks.pair(shape, 8, key, rounding, key, 32767.0, S16), 0
    yield "encode_error", blocks.error(shape, draw.choice((8, 4)), key), 0
    image, kernel, stride, padding = pooling_of(draw)
    x = normal(image, seed=draw.randint(0, 999))
    y, window = passes.max_pool2d(x, kernel, stride, padding)
    yield "max_pool2d", (x, kernel, stride, padding), 0
    codes, table, slope, offset, _ = passes.pooled_view(
        tuple(image), relu, draw.choice((None, 2, 16, 40, 256)), draw.choice(passes.POOLED_VIEWS)
    )
    yield "max_pool2d_view", (codes, table, slope, offset, relu, kernel, stride, padding), 0
    yield "max_pool2d_direct_view", (*direct.view(tuple(image), relu), kernel, stride, padding), 0
    yield "max_pool2d_backward", (normal(tuple(y.shape), seed=1), window, list(image), kernel, stride, padding), 0
    pool = (*kernel, *stride, *padding)
    yield "range_norm_gradient_", blocks.gradient(image, "random", 1, relu, key, pool=pool), 0


def of_direct(draw: Random) -> Iterator[Drawn]:
    shape, relu, codes = shape_of(draw), draw.random() < 0.5, draw.choice(direct.GRADIENTS)
    trunk = draw.choice(("none", "normal"))
    yield "direct_line", direct.line(shape[1]), 0
    yield "direct_gradient_line", direct.gradient_line(shape[1], draw.randint(1, 999)), 0
    yield "direct_view", direct.finished(shape, relu, "normal", trunk), 0
    yield "encode_direct_view", direct.encoded(shape, relu, "normal", S16, 32767.0), 0
    yield "direct_gradient_sums", direct.sums(shape, relu, codes), direct.SUMS_TOLERANCE
    yield "direct_gradient", direct.gradient(shape, relu, codes), 0


def of_bounded(draw: Random) -> Iterator[Drawn]:
    shape, relu, fill = shape_of(draw), draw.random() < 0.5, draw.choice(bounded.FILLS)
    trunk, joined, dtype = draw.choice(bounded.TRUNKS), draw.choice(bounded.JOINED), draw.choice(list(bounded.CODES))
    yield "bounded_values", bounded.bounded(shape, relu, fill, trunk), 0
    yield "encode_bounded", bounded.encoded(shape, relu, fill, trunk, dtype), 0
    yield "encode_bounded_error", bounded.error(shape, fill, joined, dtype), 0


def of_updates(draw: Random) -> Iterator[Drawn]:
    shape, dtype = shape_of(draw), draw.choice((S8, S16))
    rounding, key = draw.choice(list(updates.ROUNDINGS.values()))
    yield "sgd_on_grid_", updates.sgd(shape, dtype, rounding, key), 0
    yield "adam_on_grid_", updates.adam(shape, dtype, rounding, key), 0
    yield "shift_step_", updates.shift(shape, dtype, draw.choice(list(KEYS.values()))), 0
    yield "poison_", updates.scale_and_values(shape, *draw.choice(((), (torch.nan,), (torch.inf,)))), 0
    yield "quantized_momentum_", updates.momentum(shape, draw.choice(list(KEYS.values()))), 0


def chunks_of(draw: Random, shape: tuple[int, ...]) -> int:
    """A number that divides the rows."""
    rows = prod(shape) // shape[1]
    return draw.choice([chunks for chunks in (1, 2, 3, 4, 7, 16) if rows % chunks == 0])


FAMILIES = (of_products, of_encoding, of_views, of_blocks, of_direct, of_bounded, of_updates)
"""The one list that new operators are added to; together they draw every operator."""


def drawn(seed: int) -> Iterator[Case]:
    """A case of every operator, some of them more than once."""
    for family in FAMILIES:
        for op, arguments, tolerance in family(Random(seed)):
            yield Case(op, f"{seed}-{described(arguments)}", partial(tuple, arguments), tolerance)


def described(arguments: tuple[Any, ...]) -> str:
    """Shapes of tensors, anything else as it is."""
    return " ".join(str(tuple(value.shape) if isinstance(value, Tensor) else value) for value in arguments)
