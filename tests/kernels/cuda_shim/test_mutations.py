"""The emulated tests are worth something: every bug that is planted in a kernel, they notice."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from emulated_driver import EmulatedDriver
from kernel_cases_products import Fill, added, convolution, encoded, scaled
from kernel_matrix import Case
from mutations import MUTATIONS, Mutation
from shim_cases import FULL, KINDS, S16, SHAPES, U8, cases_of, vectors, wrong
from torch_settings import threads

from qbench.kernels.cuda.sources import KERNELS

LIMIT_S = 60
"""A bug may keep a kernel from ending."""

TENSOR_CORE = ("convolution", "weight_gradient")
DIGITS = Fill(S16, None, 1000.0, U8, None, 3.0)
WIDE = Fill(U8, None, 3.0, S16, None, 1000.0)


def cases_for(mutation: Mutation) -> list[Case]:
    """Those of its operators; for the kernels that compile long, few types of operands."""
    if mutation.file not in TENSOR_CORE:
        return [case for op in mutation.ops for case in cases_of(op) if not case.is_long]
    return [case for case in tensor_core_cases() if case.op in mutation.ops]


@cache
def tensor_core_cases() -> list[Case]:
    """All shapes, with zero points, and one product of digits."""
    cases = []
    for kind in KINDS:
        cases += [Case(kind, shape.label, partial(convolution, kind, shape, FULL)) for shape in SHAPES]
        cases.append(Case(kind, "digits", partial(convolution, kind, SHAPES[1], DIGITS)))
        cases.append(Case(kind, "wide", partial(convolution, kind, SHAPES[1], WIDE)))
        scaled_case = partial(scaled, kind, SHAPES[5], FULL, per_channel=kind == "conv2d")
        cases.append(Case(f"{kind}_scaled", "scaled", scaled_case))
    cases.append(Case("conv2d_encoded", "encoded", partial(encoded, SHAPES[5], FULL, per_channel=True)))
    cases.append(Case("add_conv2d_input_grad_", "added", partial(added, SHAPES[7], FULL)))
    return [*cases, Case("matmul", "vectors", partial(vectors, FULL))]


@cache
def driver_of(file: str, folder: Path) -> EmulatedDriver:
    """Kernels with all of a file's mutations in them, none of them switched on."""

    def mutate(name: str, text: str) -> str:
        for number, mutation in enumerate(MUTATIONS, 1):
            if mutation.file == name == file:
                text = mutation.planted(text, number)
        return text

    return EmulatedDriver(folder, kernels={**KERNELS, file: _kernels_in_use(file)}, mutate=mutate)


def _kernels_in_use(file: str) -> tuple[str, ...]:
    if file not in TENSOR_CORE:
        return KERNELS[file]
    types = ("u8, i8", "u8, u8", "i8, u8", "u8, i16")
    return tuple(name for name in KERNELS[file] if name.partition("<")[2].startswith(types) and "false" not in name)


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    """A child process of a fork must not meet the threads of its parent."""
    with threads(1):
        yield


# Before the mistakes, so that their child processes find the reference's results.
@pytest.mark.parametrize("file", dict.fromkeys(mutation.file for mutation in MUTATIONS))
def test_passes_without_them(file: str, build_folder: Path) -> None:
    mutations = [mutation for mutation in MUTATIONS if mutation.file == file]
    cases = {str(case): case for mutation in mutations for case in cases_for(mutation)}
    assert [name for name, case in cases.items() if wrong(case, driver_of(file, build_folder))] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_notices(mutation: Mutation, build_folder: Path) -> None:
    driver = driver_of(mutation.file, build_folder)
    library = driver.library(mutation.file)
    number = MUTATIONS.index(mutation) + 1
    cases = cases_for(mutation)

    def survives() -> bool:
        library.choose_mutant(ctypes.c_int(number))
        return not any(wrong(case, driver) for case in cases)

    assert in_child(survives) is not True


def in_child(question: Callable[[], bool]) -> bool | None:
    """The answer, given by a child process: a planted bug may crash it. None if it does, or takes too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which sleep here
        child = os.fork()
    if child == 0:
        answer = 2
        try:
            faulthandler.disable()
            signal.alarm(LIMIT_S)
            answer = int(question())
        finally:
            os._exit(answer)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return bool(status) if status in (0, 1) else None
