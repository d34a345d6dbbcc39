"""What stands between the launchers and the device: availability, arguments, streams. CuPy is replaced."""

from __future__ import annotations

import ctypes
import importlib
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from qbench.kernels import cuda
from qbench.kernels.cuda import layout
from qbench.kernels.cuda.columns import (
    BLOCKS_PER_MULTIPROCESSOR,
    MOST_ROWS_PER_THREAD,
    column_grid,
    column_width,
)
from qbench.kernels.cuda.launch import Double, Launch, current_driver, driven_by, flat_grid, launch
from qbench.kernels.cuda.sources import source

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    cuda.why_not.cache_clear()
    yield
    cuda.why_not.cache_clear()


def test_names_the_missing_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda.why_not() == "PyTorch finds no CUDA device"


def test_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    assert "qbench[cuda13]" in cuda.why_not()


@pytest.mark.parametrize(("capability", "fits"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((10, 0), True)])
def test_asks_for_the_instructions_it_uses(
    capability: tuple[int, int], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "find_spec", lambda name: object())
    monkeypatch.setattr(cuda, "_why_no_compiler", lambda: "")
    monkeypatch.setattr(cuda, "_cuda_versions", lambda: (13, 13))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    assert cuda.why_not() == ("" if fits else "a device has compute capability 7.5, 8.0 is needed")


class FakeCupy(ModuleType):
    """The part of CuPy that the driver uses; notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.asked: list[tuple[Any, ...]] = []
        self.current = 3
        self.driver = SimpleNamespace(
            launchKernel=self.launch,
            funcSetAttribute=lambda *arguments: self.asked.append(("attribute", *arguments)),
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
        )
        self.runtime = SimpleNamespace(setDevice=self.set_device)
        self.cuda = ModuleType("cupy.cuda")
        self.cuda.__dict__.update(driver=self.driver, runtime=self.runtime, nvrtc=None, Module=self.module)

    def set_device(self, index: int) -> None:
        self.asked.append(("context", index))
        self.current = index

    def exchange_device(self, index: int) -> None:
        self.current = index

    def module(self) -> Any:
        return SimpleNamespace(
            load=lambda binary: self.asked.append(("load", self.current, binary)),
            get_function=lambda name: SimpleNamespace(ptr=name),
        )

    def launch(self, function: str, *rest: int) -> None:
        *sizes, shared_bytes, stream, parameters, extra = rest
        assert extra == 0
        pointers = (ctypes.c_uint64 * 64).from_address(parameters)
        values = [bytes((ctypes.c_char * 8).from_address(pointer)) for pointer in pointers[:6]]
        self.asked.append(("run", self.current, function, sizes, shared_bytes, stream, values))

    def found(self, what: str) -> list[tuple[Any, ...]]:
        return [asked[1:] for asked in self.asked if asked[0] == what]


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCupy]:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "cupy.cuda", fake.cuda)
    for name in ("driver", "compiler"):
        monkeypatch.delitem(sys.modules, f"qbench.kernels.cuda.{name}", raising=False)
    driver_module = importlib.import_module("qbench.kernels.cuda.driver")
    code = importlib.import_module("qbench.kernels.cuda.compiler").Code
    monkeypatch.setattr(
        driver_module, "machine_code", lambda kernel, capability: code(kernel.upper(), bytes([capability]))
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: fake.current)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", fake.exchange_device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, index))
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda index: 1000 + index, raising=False)
    yield fake
    for name in ("driver", "compiler"):
        sys.modules.pop(f"qbench.kernels.cuda.{name}", None)


def driver() -> Any:
    return importlib.import_module("qbench.kernels.cuda.driver").CupyDriver()


def test_launches_on_the_current_stream_of_the_device(cupy: FakeCupy) -> None:
    driver().launch(Launch("pack_bits", (5, 2, 1), 256, 16, (), torch.device("cuda", 1)))
    assert cupy.found("load") == [(1, bytes([91]))]
    (run,) = cupy.found("run")
    assert run[:5] == (1, "PACK_BITS", [5, 2, 1, 256, 1, 1], 16, 1001)
    assert cupy.current == 3
    assert cupy.found("context") == [(1,)]  # CUDA makes one on every device that is set


def test_a_device_without_index_is_the_current_one(cupy: FakeCupy) -> None:
    driver().launch(Launch("pack_bits", (1, 1, 1), 32, 0, (), torch.device("cuda")))
    assert cupy.found("run")[0][0] == 3


def test_loads_once_per_device(cupy: FakeCupy) -> None:
    one = driver()
    for index in (0, 0, 1):
        one.launch(Launch("decode<u8>", (1, 1, 1), 32, 0, (), torch.device("cuda", index)))
    assert cupy.found("load") == [(0, bytes([90])), (1, bytes([91]))]


def test_asks_for_large_shared_memory(cupy: FakeCupy) -> None:
    kernel, small = "convolve<u8, i8, 128, true>", "convolve<u8, i8, 64, true>"
    one = driver()
    one.launch(Launch(kernel, (1, 1, 1), 128, 70_000, (), torch.device("cuda", 0)))
    one.launch(Launch(small, (1, 1, 1), 128, 40_000, (), torch.device("cuda", 0)))
    assert cupy.found("attribute") == [(kernel.upper(), 8, 70_000)]
    assert [run[3] for run in cupy.found("run")] == [70_000, 40_000]


def test_passes_arguments_as_the_kernels_declare_them(cupy: FakeCupy) -> None:
    x = torch.zeros(4)[1:]
    arguments = (x, None, -3, True, 0.1, Double(0.1))
    driver().launch(Launch("pack_bits", (1, 1, 1), 32, 0, arguments, torch.device("cuda", 0)))
    formats = ("<Q", "<Q", "<q", "<q", "<f4x", "<d")
    values = (x.data_ptr(), 0, -3, 1, 0.1, 0.1)
    assert cupy.found("run")[0][5] == [struct.pack(*pair) for pair in zip(formats, values, strict=True)]


def test_threads_do_not_share_their_parameters(cupy: FakeCupy) -> None:
    """Autograd launches from a thread of its own."""
    parameters = driver()._parameters
    mine = parameters.filled("pack_bits", (1,))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(parameters.filled, "pack_bits", (2,)).result() != mine


def test_arguments_of_another_launch_are_its_own(cupy: FakeCupy) -> None:
    """The format is the kernel's: no tensor is a null pointer, and a negative zero keeps its sign."""
    x, one = torch.zeros(4), driver()
    for arguments in ((x, -0.0, 3, None), (None, 2.5, -3, x)):
        one.launch(Launch("pack_bits", (1, 1, 1), 32, 0, arguments, torch.device("cuda", 0)))
    first, second = (run[5][:4] for run in cupy.found("run"))
    formats, address = ("<Q", "<f4x", "<q", "<Q"), x.data_ptr()
    for found, values in ((first, (address, -0.0, 3, 0)), (second, (0, 2.5, -3, address))):
        assert found == [struct.pack(*pair) for pair in zip(formats, values, strict=True)]


def test_an_argument_of_another_type_is_refused(cupy: FakeCupy) -> None:
    one = driver()
    one.launch(Launch("pack_bits", (1, 1, 1), 32, 0, (3,), torch.device("cuda", 0)))
    with pytest.raises(struct.error):
        one.launch(Launch("pack_bits", (1, 1, 1), 32, 0, (2.5,), torch.device("cuda", 0)))


class Recorder:
    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.number = 4

    def launch(self, launch: Launch) -> None:
        self.launches.append(launch)

    def multiprocessors(self, device: torch.device) -> int:
        return self.number


def test_empty_grids_are_not_launched() -> None:
    recorder = Recorder()
    with driven_by(recorder):
        launch("pack_bits", 0, device=CPU)
        launch("pack_bits", (3, 0), device=CPU)
        launch("pack_bits", (3, 2), device=CPU)
    assert [one.grid for one in recorder.launches] == [(3, 2, 1)]


def test_drivers_are_restored() -> None:
    outer, inner = Recorder(), Recorder()
    with driven_by(outer):
        with driven_by(inner):
            assert current_driver() is inner
        assert current_driver() is outer


def test_loops_use_few_blocks() -> None:
    with driven_by(Recorder()):
        assert flat_grid(0, CPU) == 0
        assert flat_grid(1, CPU) == 1
        assert flat_grid(256 * 16 + 1, CPU) == 2
        assert flat_grid(10**12, CPU) == 4 * 2  # see conftest.py


@pytest.mark.parametrize("multiprocessors", [1, 132])
@pytest.mark.parametrize("channels", [1, 4, 24, 64, 4096])
@pytest.mark.parametrize("rows", [1, 1000, 2**20 + 1, 2**34 + 1])
def test_a_thread_can_count_its_rows(rows: int, channels: int, multiprocessors: int) -> None:
    """However few blocks the device has room for; and every part but the last ones has rows."""
    recorder, width = Recorder(), column_width(channels)
    recorder.number = multiprocessors
    with driven_by(recorder):
        parts, tiles, layers = column_grid(rows, channels, width, CPU, layers=3)
    neighbours = min(32, channels // width)
    assert -(-rows // parts) <= MOST_ROWS_PER_THREAD * (256 // neighbours)
    assert (tiles, layers) == (-(-channels // (width * neighbours)), 3)
    assert parts <= max(rows, 1)


def test_grids_and_kernels_of_columns_count_alike() -> None:
    text = source("views")
    assert f"COLUMN_BLOCKS = {BLOCKS_PER_MULTIPROCESSOR};" in text
    assert f"OWN_ROW_BITS = {MOST_ROWS_PER_THREAD.bit_length() - 1};" in text
    assert MOST_ROWS_PER_THREAD * 255**2 < 2**32


def test_columns_are_taken_in_fours_where_memory_allows_it() -> None:
    whole, code = torch.zeros(64), torch.zeros(64, dtype=torch.uint8)
    assert column_width(16, whole, None, whole[4:], code[4:]) == 4
    assert column_width(18, whole) == column_width(16, whole, whole[2:]) == column_width(16, code[3:]) == 1


def test_random_draws_are_taken_modulo_32_bits() -> None:
    assert layout.draw("stochastic", [2**32 + 5, -1, 7, 1]) == (3, 5, 2**32 - 1, 7, None)
    assert layout.draw("half_up", None) == (1, 0, 0, 0, None)
