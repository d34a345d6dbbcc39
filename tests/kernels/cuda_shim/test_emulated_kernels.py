"""The CUDA kernels, emulated on the CPU, give the reference's results whatever the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import pytest
import torch
from emulated_driver import EmulatedDriver
from kernel_draws import drawn
from kernel_matrix import Case, copy_to, results, unaligned
from shim_cases import OPS, SHARED, TILES, Emulated, cases_of, expected, launcher, wrong
from torch_settings import default_type

from qbench.kernels.cuda import encode, pooling
from qbench.kernels.cuda.launch import Launch, driven_by
from qbench.kernels.cuda.sources import FILES, KERNELS
from qbench.kernels.random import MASK, Key, steps_elapsed
from qbench.kernels.random import random_words as reference_words


@pytest.mark.parametrize("op", OPS)
def test_equals_the_reference(op: str, build_folder: Path) -> None:
    driver = EmulatedDriver(build_folder)
    assert failures(cases_of(op), driver) == {}


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_reference_on_drawn_shapes(seed: int, build_folder: Path) -> None:
    assert failures(list(drawn(seed)), EmulatedDriver(build_folder, seed=seed)) == {}


def failures(cases: Sequence[Case], driver: EmulatedDriver) -> dict[str, str]:
    """What is wrong, by case."""
    found = {str(case): wrong(case, driver) for case in cases}
    return {case: text for case, text in found.items() if text}


SPLIT = (
    "moments", "chunk_statistics", "encode_view_gradient_", "view_extremes", "level_gradient_sums",
    "direct_gradient_sums",
)  # fmt: skip
"""Operators whose work is split by the size of the device; so is that of the products."""


@pytest.mark.parametrize("multiprocessors", [1, 7, 40])
def test_is_the_same_on_devices_of_any_size(multiprocessors: int, build_folder: Path) -> None:
    """How the work is split, and in which order it runs, changes nothing."""
    driver = EmulatedDriver(build_folder, seed=1000 * multiprocessors, multiprocessors=multiprocessors)
    large = [next(case for case in SHARED if case.op == op and "large" in case.label) for op in SPLIT]
    assert failures([*large, *TILES[:6]], driver) == {}


@pytest.mark.parametrize("op", OPS)
def test_takes_memory_that_starts_anywhere(op: str, build_folder: Path) -> None:
    driver = EmulatedDriver(build_folder)
    assert not any(wrong(case, driver, unaligned(case)) for case in cases_of(op)[-2:])


def test_copies_of_arguments_start_where_these_do() -> None:
    """Or no kernel would ever be given memory that starts between two vectors."""
    for x in (torch.arange(7)[3:], torch.arange(24.0).view(4, 6).t()[1:], torch.empty(9)[1:].view(2, 4)[:, :0]):
        copied = copy_to(x, "cpu")
        assert (copied.storage_offset(), copied.stride()) == (x.storage_offset(), x.stride())
        assert torch.equal(copied, x)


@pytest.mark.parametrize("op", OPS)
def test_the_default_type_of_floats_changes_nothing(op: str, build_folder: Path) -> None:
    case = cases_of(op)[-1]
    arguments = case.arguments()
    expected(case)  # kept
    with default_type(torch.float64):
        assert wrong(case, EmulatedDriver(build_folder), arguments) == ""


@pytest.mark.parametrize("op", ["moments", "level_gradient_sums", "direct_gradient_sums"])
def test_float_sums_are_reproducible(op: str, build_folder: Path) -> None:
    case = next(case for case in SHARED if case.op == op and "large" in case.label)
    drivers = [EmulatedDriver(build_folder, seed=seed) for seed in (3, 4)]
    first, second = (results(Emulated(driver=driver), op, case.arguments()) for driver in drivers)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("generator", ["philox", "hash"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 1023])
def test_random_words(generator: str, count: int, build_folder: Path) -> None:
    key = Key(0xFFFFFFFF, 0x12345678, 0x9ABCDEF0, generator)  # type: ignore[arg-type]
    with driven_by(EmulatedDriver(build_folder)):
        words = encode.random_words(count, key.words(), torch.device("cpu"))
    assert torch.equal(words, reference_words(count, key))


@pytest.mark.parametrize("op", [op for op in OPS if "key" in signature(launcher(op)).parameters])
def test_what_is_captured_draws_the_bits_of_the_step_at_which_it_runs(op: str, build_folder: Path) -> None:
    """The key's step is one for good, and the steps since then are counted on the device."""
    keys = [place for place, name in enumerate(signature(launcher(op)).parameters) if name in ("key", "wide_key")]
    drawing = [case for case in cases_of(op) if any(case.arguments()[place] is not None for place in keys)]
    assert drawing
    for count in (3, -(2**31)):
        found = {str(case): as_captured(case, keys, count, EmulatedDriver(build_folder)) for case in drawing}
        assert not any(found.values()), found


def as_captured(case: Case, keys: Sequence[int], count: int, driver: EmulatedDriver) -> str:
    """What is wrong with a case which was captured ``count`` steps before."""
    expected(case)  # outside of the context, which the reference follows too
    arguments, elapsed = case.arguments(), torch.zeros((), dtype=torch.int32)
    for place in keys:
        if arguments[place] is not None:
            seed, tensor, step, generator = arguments[place]
            arguments[place] = [seed, tensor, (step - count) & MASK, generator]
    elapsed.fill_(count)
    with steps_elapsed(elapsed):
        return wrong(case, driver, arguments)


def test_pooling_with_64_bit_indices(build_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "LARGEST_INT32", 0)
    driver = EmulatedDriver(build_folder)
    assert failures([case for op in OPS if "pool" in op for case in cases_of(op)[:4]], driver) == {}
    assert all("i64" in kernel for kernel in driver.launched)


class Recorder:
    """A driver that only takes notes."""

    def __init__(self) -> None:
        self.kernels: set[str] = set()

    def launch(self, launch: Launch) -> None:
        self.kernels.add(launch.kernel)

    def multiprocessors(self, device: torch.device) -> int:
        return 2


@pytest.mark.parametrize(("rows", "index"), [(2**31 - 512, "i32"), (2**31 - 100, "i64")])
def test_pooling_numbers_the_end_of_every_window(rows: int, index: str) -> None:
    """A window of a very tall image may end beyond 2^31 rows where the image does not."""
    recorder = Recorder()
    with driven_by(recorder):
        pooling.max_pool2d(torch.zeros(1).expand(1, 1, rows, 1), [256, 1], [2**30, 1], [128, 0])
    assert recorder.kernels == {f"max_pool2d<{index}, 1>"}


def test_the_cases_reach_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    with driven_by(recorder):
        encode.random_words(1, [0, 0, 0, 0], torch.device("cpu"))
        for case in (case for op in OPS for case in cases_of(op)):
            launcher(case.op)(*case.arguments())
        monkeypatch.setattr(pooling, "LARGEST_INT32", 0)
        for case in (case for case in SHARED if "pool" in case.op):
            launcher(case.op)(*case.arguments())
    assert recorder.kernels == set(FILES), set(FILES) - recorder.kernels
    assert sum(len(kernels) for kernels in KERNELS.values()) == len(FILES)
