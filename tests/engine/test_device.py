"""Devices, and how the machine is shared."""

from __future__ import annotations

import pytest
import torch

from qbench.engine import Allotment, Notice, allot, check_device, plan_suite, run_suite
from qbench.environment import usable_cores
from qbench.errors import DeviceError, InputError
from qbench.kernels import backends

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@NO_GPU
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_missing_gpu_is_said_before_anything_is_written(bench, name):
    suite = bench.suite("- ./fakes.py:other")
    with pytest.raises(DeviceError, match=rf"^device '{name}' is not available: .*; use --device cpu$"):
        run_suite(suite, bench.out, device=name)
    with pytest.raises(DeviceError):
        plan_suite(suite, bench.out, device=name)
    assert not bench.out.exists()


@NO_GPU
def test_auto_is_the_cpu_without_a_gpu():
    assert check_device("auto") == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpus_are_counted():
    assert check_device("auto") == check_device("cuda") == "cuda"
    with pytest.raises(DeviceError, match=r"counted from cuda:0"):
        check_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "", "CPU"])
def test_an_unknown_device_is_named_with_what_there_is(name):
    with pytest.raises(DeviceError, match=rf"^unknown device '{name}'; use cpu, cuda, cuda:N or auto$"):
        check_device(name)


def test_a_cpu_runs_one_cell_per_core_by_default():
    assert allot("cpu") == Allotment(jobs=usable_cores(), threads=1)
    assert allot("cpu", threads=usable_cores()) == Allotment(jobs=1, threads=usable_cores())
    assert allot("cpu", jobs=3, threads=2) == Allotment(3, 2)


def test_a_gpu_runs_one_cell_at_a_time_by_default():
    assert allot("cuda").jobs == 1
    assert allot("cuda").threads == max(1, min(8, usable_cores()))


@pytest.mark.parametrize(("jobs", "threads", "flag"), [(0, None, "--jobs"), (None, -1, "--threads")])
def test_less_than_one_of_either_is_refused(jobs, threads, flag):
    with pytest.raises(InputError, match=rf"^{flag}: must be at least 1, not"):
        allot("cpu", jobs, threads)


def test_more_threads_than_a_process_survives_are_refused():
    with pytest.raises(InputError, match=r"^--threads: must be at most \d+, not 100000$"):
        allot("cpu", None, 100_000)


def test_a_suite_with_nothing_to_run_says_why_and_writes_nothing(bench):
    suite = bench.suite("- ./fakes.py:whole")
    with pytest.raises(InputError, match=r"has nothing to run here: whole offers simulated arithmetic, not integer$"):
        bench.run(suite)
    assert not bench.out.exists()


@pytest.fixture
def gpu_without_kernels(monkeypatch):
    """A machine whose GPU PyTorch sees and for which CuPy is missing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(backends, "why_none", lambda device: "CuPy is not installed" if device == "cuda" else "")


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_gpu_without_kernels_is_refused_before_anything_is_written(bench, device, gpu_without_kernels):
    suite = bench.suite("- ./fakes.py:other\n- sr")
    for run in (run_suite, plan_suite):
        with pytest.raises(DeviceError, match=r"^device 'cuda.*' cannot run .*: CuPy is not .*; or use --device cpu$"):
            run(suite, bench.out, device=device)
    assert not bench.out.exists()


def test_float_methods_need_no_kernels(bench, gpu_without_kernels):
    assert plan_suite(bench.suite("- ./fakes.py:other"), bench.out, device="cuda").notes == ()


@pytest.mark.parametrize(("arithmetic", "notes"), [("integer", ("they are slow",)), ("simulated", ())])
def test_slow_kernels_are_told_of_in_the_plan_and_in_the_run(bench, recorder, monkeypatch, arithmetic, notes):
    monkeypatch.setattr(backends, "why_slow", lambda device: "they are slow")
    suite = bench.suite("- sr").model_copy(update={"arithmetic": arithmetic})
    assert plan_suite(suite, bench.out).notes == notes
    bench.run(suite, observer=recorder)
    assert tuple(notice.message for notice in recorder.of(Notice)) == notes
    assert plan_suite(suite, bench.out).notes == notes
