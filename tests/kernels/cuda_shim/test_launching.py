"""What stands between the launchers and the device: availability, arguments, streams. CuPy is replaced."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from qbench.kernels import cuda
from qbench.kernels.cuda import layout, sources
from qbench.kernels.cuda.launch import Double, Launch, current_driver, driven_by, flat_grid, launch

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    cuda.why_not.cache_clear()
    yield
    cuda.why_not.cache_clear()


def test_names_the_missing_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not cuda.available()
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
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    assert cuda.available() is fits
    assert fits or cuda.why_not() == "a device has compute capability 7.5, 8.0 is needed"


class FakeCupy(ModuleType):
    """The part of CuPy that the driver uses; notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__("cupy")
        self.asked: list[tuple[Any, ...]] = []
        self.cuda = SimpleNamespace(Device=self.context("device"), ExternalStream=self.context("stream"))

    def context(self, name: str) -> Any:
        cupy = self

        class Context:
            def __init__(self, *arguments: Any) -> None:
                self.arguments = arguments

            def __enter__(self) -> None:
                cupy.asked.append((name, *self.arguments))

            def __exit__(self, *_: object) -> None:
                cupy.asked.append((f"end of {name}",))

        return Context

    def RawModule(self, *, code: str, options: tuple[str, ...], name_expressions: Any) -> Any:  # noqa: N802 - CuPy's
        self.asked.append(("compile", name_expressions, options))
        assert "#include" not in code
        return SimpleNamespace(get_function=self.function)

    def function(self, name: str) -> Any:
        cupy = self

        class Function:
            max_dynamic_shared_size_bytes = 0

            def __call__(self, grid: Any, block: Any, arguments: Any, *, shared_mem: int) -> None:
                cupy.asked.append(("run", name, grid, block, arguments, shared_mem, self.max_dynamic_shared_size_bytes))

        return Function()


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "qbench.kernels.cuda.driver", raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=1000 + index))
    return fake


def driver() -> Any:
    return importlib.import_module("qbench.kernels.cuda.driver").CupyDriver()


def test_launches_on_the_current_stream_of_the_device(cupy: FakeCupy) -> None:
    driver().launch(Launch("pack_bits", (5, 1, 1), 256, 0, (), torch.device("cuda", 1)))
    assert [asked[0] for asked in cupy.asked] == [
        "device",
        "compile",
        "stream",
        "run",
        "end of stream",
        "end of device",
    ]
    assert cupy.asked[0] == ("device", 1)
    assert cupy.asked[2] == ("stream", 1001, 1)
    assert cupy.asked[3][1:4] == ("pack_bits", (5, 1, 1), (256, 1, 1))


def test_a_device_without_index_is_the_current_one(cupy: FakeCupy) -> None:
    driver().launch(Launch("pack_bits", (1, 1, 1), 32, 0, (), torch.device("cuda")))
    assert cupy.asked[0] == ("device", 3)


def test_compiles_once_per_device(cupy: FakeCupy) -> None:
    one = driver()
    for index in (0, 0, 1):
        one.launch(Launch("decode<u8>", (1, 1, 1), 32, 0, (), torch.device("cuda", index)))
    assert [asked[1] for asked in cupy.asked if asked[0] == "compile"] == [("decode<u8>",)] * 2
    assert all(asked[2] == sources.OPTIONS for asked in cupy.asked if asked[0] == "compile")


def test_asks_for_large_shared_memory(cupy: FakeCupy) -> None:
    kernel, small = "convolve<u8, i8, 128, true>", "convolve<u8, i8, 64, true>"
    one = driver()
    one.launch(Launch(kernel, (1, 1, 1), 128, 70_000, (), torch.device("cuda", 0)))
    one.launch(Launch(small, (1, 1, 1), 128, 40_000, (), torch.device("cuda", 0)))
    assert [asked[5:] for asked in cupy.asked if asked[0] == "run"] == [(70_000, 70_000), (40_000, 0)]


def test_passes_arguments_as_the_kernels_declare_them(cupy: FakeCupy) -> None:
    x = torch.zeros(4)[1:]
    arguments = (x, None, 3, True, 0.1, Double(0.1))
    driver().launch(Launch("pack_bits", (1, 1, 1), 32, 0, arguments, torch.device("cuda", 0)))
    passed = next(asked[4] for asked in cupy.asked if asked[0] == "run")
    expected = (np.intp(x.data_ptr()), np.intp(0), np.int64(3), np.int64(1), np.float32(0.1), np.float64(0.1))
    assert [(type(value), value) for value in passed] == [(type(value), value) for value in expected]
    assert all(value.nbytes == 8 for value in passed if value.dtype != np.float32)


class Recorder:
    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def launch(self, launch: Launch) -> None:
        self.launches.append(launch)

    def multiprocessors(self, device: torch.device) -> int:
        return 4


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


def test_loops_use_no_more_blocks_than_fit_at_once() -> None:
    with driven_by(Recorder()):
        assert flat_grid(0, CPU) == 0
        assert flat_grid(1, CPU) == 1
        assert flat_grid(256 * 16 + 1, CPU) == 2
        assert flat_grid(10**12, CPU) == 4 * 8


def test_random_draws_are_taken_modulo_32_bits() -> None:
    assert layout.draw("stochastic", [2**32 + 5, -1, 7, 1]) == (3, 5, 2**32 - 1, 7)
    assert layout.draw("half_up", None) == (1, 0, 0, 0)
