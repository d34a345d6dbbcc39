"""Every public function of the kernels reads each of its tensors right in any memory, or refuses it with one sentence.

New operators enter by their cases: an operator's public function has its name and names its arguments alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from inspect import getmembers, isfunction, signature
from typing import Any

import pytest
import torch
from kernel_cases import CASES
from kernel_matrix import PUBLIC_MODULES, Case, difference, integers, normal, number, spaced
from torch import Tensor

from qbench.kernels.library import SCHEMAS
from qbench.kernels.pooling import Pooled

PUBLIC: dict[str, Callable[..., Any]] = {
    name: function
    for module in PUBLIC_MODULES
    for name, function in getmembers(module, isfunction)
    if function.__module__ == module.__name__ and name[0] != "_" and not name.startswith("check")
}
PARTS = ("range_line", "range_gradient_line")
"""Operators without a public function: a block computes them from its own results."""

OPS = [op for op in SCHEMAS if op not in PARTS]
LINEAR = [name for name in PUBLIC if name.startswith("linear_")]
"""Public functions without an operator: matrix products of other names."""

MOST_ELEMENTS = 5000
Arguments = dict[str, Any]


def public_name(op: str) -> str:
    return op.replace("conv2d", "conv2d_s8").replace("matmul", "matmul_s8")


def schema(op: str) -> Any:
    return getattr(torch.ops.qbench, op).default._schema


def named(case: Case) -> Arguments:
    """The case's arguments by the names that the public function has for them."""
    names = [argument.name for argument in schema(case.op).arguments]
    arguments = dict(zip(names, case.arguments(), strict=True))
    arguments.pop("wide", None)
    return arguments


def called(function: Callable[..., Any], arguments: Arguments) -> list[Tensor]:
    """What the call returns, and the tensors that it was given, which it may have changed."""
    given = dict(arguments)
    if "pool" in given:
        window, pool = given.pop("window"), given.pop("pool")
        given["g"] = given["g"] if window is None else Pooled(given["g"], window, pool[:2], pool[2:4], pool[4:])
    returned = function(**given)
    outputs = [] if returned is None else [returned] if isinstance(returned, Tensor) else list(returned)
    tensors = (value.clone() for value in arguments.values() if isinstance(value, Tensor))
    return [*outputs, *tensors]


def reversed_(x: Tensor) -> Tensor:
    """The first dimension innermost."""
    order = tuple(reversed(range(x.dim())))
    return x.permute(order).contiguous().permute(order)


def places(op: str) -> Iterator[tuple[Case, str]]:
    """The tensor arguments of an operator, each with the cases in which it has most elements of few: the first of those
    cases, one in the middle and the last, because poison makes all results alike."""
    found: dict[str, dict[int, list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in [case for case in CASES if case.op == op and not case.is_long]:
        for name, value in named(case).items():
            if isinstance(value, Tensor) and value.numel() < MOST_ELEMENTS:
                found[name][value.numel()].append(case)
    assert len(found) == sum("Tensor" in str(argument.type) for argument in schema(op).arguments), list(found)
    for name, by_size in found.items():
        cases = by_size[max(by_size)]
        for case in {str(case): case for case in (cases[0], cases[len(cases) // 2], cases[-1])}.values():
            yield case, name


def is_written(op: str, name: str) -> bool:
    written = (argument for argument in schema(op).arguments if argument.name == name)
    return any(argument.alias_info is not None and argument.alias_info.is_write for argument in written)


def wrong(
    function: Callable[..., Any], build: Callable[[], Arguments], name: str, written: bool, relative: float
) -> str:
    """Where a call with an argument in another memory differs; a written one may be refused instead."""
    expected = called(function, build())
    for moved in (spaced, reversed_):
        arguments = build()
        arguments[name] = moved(arguments[name])
        try:
            found = called(function, arguments)
        except ValueError as error:
            if not (written and name in str(error) and ("dense" in str(error) or "memory layout" in str(error))):
                return f"{name}, {moved.__name__}: {error}"
            continue
        text = difference(expected, found, relative)
        if text:
            return f"{name}, {moved.__name__}: {text}"
    return ""


@pytest.mark.parametrize("op", OPS)
def test_strided_operands_are_read_right_or_refused(op: str) -> None:
    function = PUBLIC[public_name(op)]
    for case, name in places(op):
        found = wrong(function, lambda case=case: named(case), name, is_written(op, name), case.relative)
        assert found == "", str(case)


@pytest.mark.parametrize("function", LINEAR)
def test_strided_operands_of_linear_layers(function: str) -> None:
    build = squares(function)
    for name in build():
        assert wrong(PUBLIC[function], build, name, False, 0.0) == ""


def squares(function: str) -> Callable[[], Arguments]:
    """Square matrices for whatever the function takes; scales, zero points, vectors and places by name."""
    codes = torch.uint8 if function.endswith("_line") else torch.int8

    def value(name: str, seed: int) -> Tensor:
        if name in ("bias", "slope", "pull"):
            return normal((16,), seed=seed)
        if name == "mean":
            return normal((16,), seed=seed).double()
        if name == "at":
            return torch.arange(32)
        if name == "w_scale" and "grad" not in function:
            return normal((16,), seed=seed).abs()
        if name.endswith(("_scale", "_zero")):
            return number(3.0 if name.endswith("_zero") else 0.37)
        return integers((16, 16), codes, seed=seed)

    names = list(signature(PUBLIC[function]).parameters)
    return lambda: {name: value(name, seed) for seed, name in enumerate(names)}


def test_every_public_function_is_tested() -> None:
    assert sorted(PUBLIC) == sorted([*map(public_name, OPS), *LINEAR])
    assert set(PARTS) <= set(SCHEMAS)
