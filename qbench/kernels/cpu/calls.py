"""Calls of the elementwise functions in the shared library: their C signatures, and the arguments many of them share.

Pointers are passed as integers, so the library needs no header of PyTorch. The functions trust their arguments: what
calls them has checked types, shapes and memory layout.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qbench.kernels import cpu

ISA_NUMBERS = {"scalar": 0, "avx2": 1, "avxvnni": 1, "avx512": 2, "avx512vnni": 2, "amx": 2, "neon": 3}
"""The elementwise loops of each level that the products know; theirs are more."""

KINDS = ("fixed", "linear", "power")
TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32)
NEAREST, HALF_UP, PHILOX, HASH, SIGN, SIGN_PHILOX, SIGN_HASH = range(7)

C_TYPES = {
    "p": ctypes.c_void_p,
    "l": ctypes.c_int64,
    "i": ctypes.c_int,
    "u": ctypes.c_uint32,
    "d": ctypes.c_double,
}

VIEW = "p l l p p i"  # codes, elements, channels, slope, offset, relu
KEY = "u u u i"  # seed, tensor, step, generator
RANDOM = "u u u"
AFFINE = f"p p i i {KEY}"  # low, high, bits, integer zero point
SCALED = f"p l i d d d i {RANDOM} i"  # magnitude, its numbers, kind, divisor, low, high, rule, key, type
DIRECT = "p l l p p d d p p i"  # x, rows, channels, mean, inverse, unit, top, slope, offset, relu
BOUNDED = "p l d p i p i d"  # y, elements, inverse, trunk, its type, its scale, relu, limit
GRID = f"d d d i {RANDOM}"  # scale, low, high, rule, key
REPLACED = "p p l"  # at, values, count

SIGNATURES = {
    "extremes": "p l p",
    "affine_parameters": "p p i i p p",
    "encode_affine": f"p l {AFFINE} p p p",
    "encode_scaled": f"p l {SCALED} p p",
    "encode_channels": f"p l l d i {RANDOM} i p p",
    "decode_channels": "p i l l p p",
    "encode_flag": "p l p l i p p",
    "encode_binary": f"p l p {KEY} p p",
    "encode_levels": "p l l p p p l p",
    "look_up": "p l p l p",
    "decode": "p i l p p p",
    "encode_affine_view": f"{VIEW} {AFFINE} {REPLACED} p p p",
    "encode_scaled_view": f"{VIEW} {SCALED} {REPLACED} p p",
    "view_extremes": f"{VIEW} {REPLACED} p",
    "view": "p l l p l p p i p p p p",
    "apply_mask": "p l p p p",
    "rectify": "p l p p p p",
    "join_gradients": "p i l p p p p",
    "view_gradient_extremes": f"p {VIEW} p",
    "encode_view_gradient": f"p {VIEW} {AFFINE} p p p",
    "level_gradient": "p p l l p l p p i p p p p",
    "chunk_statistics": "p l l l p p p p p",
    "moments": "p l l p p p p",
    "move_average": "p l p i d",
    "level_gradient_sums": "p p l l p l p p i p",
    "level_line": "l p p p p d d p p p p p",
    "level_gradient_line": "l p l p p p p p p p",
    "direct_line": "l p p p p p d d p p p p p p p",
    "direct_gradient_line": "l p l d p p p p p p p p p",
    "direct_view": f"{DIRECT} p p p",
    "encode_direct_view": f"{DIRECT} d d d i p p",
    "direct_gradient_sums": f"p i p {DIRECT} p",
    "direct_gradient": f"p i p {DIRECT} p p p p p",
    "bounded_values": f"{BOUNDED} p p p",
    "encode_bounded": f"{BOUNDED} d d d i p p p p",
    "encode_bounded_error": "p l p i p p p d d i p p",
    "sgd_on_grid": f"p i l p p d d d i i {GRID}",
    "adam_on_grid": f"p i l p p p d d d d d d {GRID}",
    "quantized_momentum": f"p p p l p d l l l l {KEY}",
    "shift_step": f"p i p l p d l {KEY}",
    "poison": "p p l",
    "range_line": "p p p l l l p p p p d d i p p p p p p p",
    "range_gradient_line": "p l l l p p p p p p d p p p p p p p p p p p",
    "encode_ranged": f"p l i i {KEY} p p p p",
    "round_scaled": f"p l {SCALED} p",
    "range_norm": f"p l l p p i {KEY} l p p d d i p p p p p p p p p p p p",
    "range_norm_gradient": f"p l l p p p p p p i i {KEY} p p p p d l p p p p p p p p p p p p p",
    "encode_error": f"p l l p p p p l i {KEY} p p p",
    "encode_error_pair": f"p l l p p p p l i {KEY} d i {RANDOM} i p p p p p",
    "max_pool": "p l l p p p",
    "max_pool_view": "p l l p p l p p i p p",
    "max_pool_direct_view": "p l l p p p d d p p i p p",
    "max_pool_backward": "p p l l p p",
    "pack_bits": "p l i p",
    "unpack_bits": "p l i p",
}
"""Arguments of each function, but for the number of threads and of the instruction set that all of them end with."""


class NativeCall(NamedTuple):
    """A call of the library that can be made again. pointers: the addresses among its arguments, each as the list or
    array that holds it and the index there. steps: the indices of arguments that are the step of a random key. check:
    takes what the function returns and raises where that is an error."""

    function: Callable[..., Any]
    arguments: list[Any]
    pointers: list[tuple[Any, int]]
    steps: list[int]
    check: Callable[[int], None] | None = None


_noted: ContextVar[list[NativeCall] | None] = ContextVar("calls that are noted", default=None)  # of each thread its own


@contextmanager
def noting() -> Iterator[list[NativeCall]]:
    """Within the context, every call of the library in this thread goes into the list."""
    calls = list[NativeCall]()
    before = _noted.set(calls)
    try:
        yield calls
    finally:
        _noted.reset(before)


def note(make: Callable[[], NativeCall]) -> None:
    """Put the call that ``make`` describes into the list, where somebody wants one."""
    calls = _noted.get()
    if calls is not None:
        calls.append(make())


@cache
def _function(library: ctypes.CDLL, name: str) -> Callable[..., None]:
    function: Any = getattr(library, f"qbench_{name}")
    function.restype = None
    function.argtypes = [C_TYPES[letter] for letter in SIGNATURES[name].split()] + [ctypes.c_int, ctypes.c_int]
    return function  # type: ignore[no-any-return]


def call(name: str, *arguments: float | ctypes.Array[Any] | None) -> None:
    """Call ``qbench_<name>`` with these arguments on PyTorch's number of threads."""
    function = _function(cpu.library(), name)
    all_arguments = [*arguments, torch.get_num_threads(), ISA_NUMBERS[cpu.isa()]]
    function(*all_arguments)
    note(lambda: _described(name, function, all_arguments))


def _described(name: str, function: Callable[..., None], arguments: list[Any]) -> NativeCall:
    letters = SIGNATURES[name].split()
    pointers = [(arguments, i) for i, letter in enumerate(letters) if letter == "p" and isinstance(arguments[i], int)]
    keys = [i for i, letter in enumerate(letters) if letter == "u"]
    return NativeCall(function, arguments, pointers, keys[2::3])  # of seed, tensor, step


def pointer(x: Tensor | None) -> int | None:
    """Address of the first element; NULL for None."""
    return None if x is None else x.data_ptr()


def numbers(*values: int) -> ctypes.Array[ctypes.c_int64]:
    """An array of int64 for C."""
    return (ctypes.c_int64 * len(values))(*values)


def drawing(key: Sequence[int] | None) -> Sequence[int]:
    """Seed, tensor, step and generator; generator -1 to round to nearest."""
    return (0, 0, 0, -1) if key is None else key


def rule_and_key(rounding: str, key: Sequence[int] | None) -> tuple[int, int, int, int]:
    """The number of the rule, and seed, tensor and step."""
    fixed = {"nearest": NEAREST, "half_up": HALF_UP, "binary": SIGN}.get(rounding)
    if fixed is not None or key is None:
        return (NEAREST if fixed is None else fixed), 0, 0, 0
    drawn = (SIGN_PHILOX, SIGN_HASH) if rounding == "binary_stochastic" else (PHILOX, HASH)
    return drawn[key[3]], key[0], key[1], key[2]


def floats(*shape: int) -> Tensor:
    """Uninitialised float32: what C++ writes, whatever PyTorch's default type is."""
    return torch.empty(shape, dtype=torch.float32)


def number() -> Tensor:
    """A place for a scale."""
    return floats()
