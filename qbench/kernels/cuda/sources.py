"""The CUDA sources and the kernels in them."""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from pathlib import Path

FOLDER = Path(__file__).parent

OPTIONS = (
    "--std=c++17",
    "--device-as-default-execution-space",
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
)
"""Every operation rounded by itself and subnormal numbers kept, as on the other backends. NVRTC 13.0 takes some lambdas
for host functions unless it is told that there are none."""

BYTES = ("u8", "i8")
CODES = ("u8", "i8", "i16", "i32")
SIGNED = ("i8", "i16", "i32")
FACTORS = ("u8", "i8", "i16")
GRADIENTS = ("float", "i8", "i16")


def _instances(name: str, *choices: tuple[str, ...]) -> tuple[str, ...]:
    """``name<...>`` for every combination of template arguments."""
    return tuple(f"{name}<{', '.join(arguments)}>" for arguments in product(*choices))


KERNELS: dict[str, tuple[str, ...]] = {
    "encode": (
        "reset_extremes", "tensor_extremes", "prepare_affine", "prepare_scaled", "prepare_flag", "encode_flag",
        "encode_binary", "encode_levels", "random_words",
        *_instances("encode", CODES), "look_up", *_instances("decode", CODES),
        *_instances("encode_channels", SIGNED), *_instances("decode_channels", SIGNED),
    ),
    "views": (
        "mark_elements", "view_extremes", "finished_view", "apply_mask", "view_gradient_extremes", "unpack_chunk_keys",
        "rectify",
        *_instances("join_gradients", ("i8", "i16")),
        *_instances("encode_view", CODES), *_instances("encode_elements", CODES),
        *_instances("encode_view_gradient", ("1", "4")), *_instances("chunk_statistics", ("1", "4")),
    ),
    "levels": (
        "finish_moments", "level_line", "level_gradient_line",
        "encode_normalised_levels", "finish_level_gradient_sums", "level_gradient",
        *_instances("move_average", ("float", "double")),
        *_instances("partial_moments", ("1", "4")), *_instances("partial_level_gradient_sums", ("1", "4")),
    ),
    "direct": (
        "direct_line", "direct_gradient_line", "direct_view", "finish_direct_gradient_sums",
        *_instances("encode_direct_view", ("i8", "i16", "i32")),
        *_instances("partial_direct_gradient_sums", ("1", "4"), GRADIENTS), *_instances("direct_gradient", GRADIENTS),
    ),
    "bounded": (
        *_instances("bounded_values", GRADIENTS), *_instances("encode_bounded", GRADIENTS, ("i8", "i16", "i32")),
        *_instances("bounded_error_extremes", ("i8", "i16")),
        *_instances("encode_bounded_error", ("i8", "i16"), ("i8", "i16", "i32")),
    ),
    "updates": (
        "decayed_extremes", "quantized_momentum", "poison",
        *_instances("sgd_on_grid", ("i8", "i16")), *_instances("adam_on_grid", ("i8", "i16")),
        *_instances("shift_step", ("i8", "i16")),
    ),
    "range_norm": ("range_line", "range_gradient_line"),
    "packing": ("pack_bits", "unpack_bits"),
    "pooling": (
        *_instances("max_pool2d", ("i32", "i64"), ("1", "4")),
        *_instances("max_pool2d_view", ("i32", "i64"), ("1", "4")),
        *_instances("max_pool2d_direct_view", ("i32", "i64"), ("1", "4")),
        *_instances("max_pool2d_backward", ("i32", "i64"), ("1", "4")),
    ),
    "operands": (
        "pack_rows", "transpose_rows", "split_digits", "finish_sums", "finish_weight_gradient",
        *_instances("row_sums", BYTES),
    ),
    "convolution": _instances("convolve", BYTES, BYTES, ("64", "128"), ("false", "true")),
    "weight_gradient": _instances("weight_gradient", BYTES, FACTORS, ("64", "128"), ("64", "128")),
    "line_gradient": ("finish_line_gradient",),
    "plain_products": (
        *_instances("plain_convolve", FACTORS, FACTORS), *_instances("plain_input_gradient", FACTORS, FACTORS),
        *_instances("plain_weight_gradient", FACTORS, FACTORS),
    ),
}  # fmt: skip
"""Every kernel, by the .cu file that holds it; templates by each of their instances."""

FILES = {kernel: file for file, kernels in KERNELS.items() for kernel in kernels}


@cache
def source(file: str) -> str:
    """A .cu file with the headers it includes, each once, in place of the #include lines.

    One text: it says all that the machine code depends on, and NVRTC needs no folder of headers.
    """
    return expanded(f"{file}.cu")


def expanded(name: str) -> str:
    """The same of a file or header."""
    return _expanded(name, set())


def _expanded(name: str, seen: set[str]) -> str:
    lines = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        included = re.fullmatch(r'#include "(\w+\.cuh)"', line)
        if included is None:
            lines.append(line)
        elif included[1] not in seen:
            seen.add(included[1])
            lines.append(_expanded(included[1], seen))
    return "\n".join(lines) + "\n"
