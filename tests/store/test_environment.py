"""What is taken down about the machine."""

from __future__ import annotations

import getpass
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import qbench
from qbench import environment as module
from qbench.environment import (
    cpu_flags,
    cpu_model,
    environment,
    hardware_key,
    library_key,
    num_cores,
    usable_cores,
)

ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"
X86 = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni ht\n"


@pytest.fixture
def cpuinfo(monkeypatch):
    """Replaces the text of /proc/cpuinfo."""

    def pretend(text):
        monkeypatch.setattr(module, "_cpuinfo_text", lambda: text)
        return cpu_model.__wrapped__(), cpu_flags.__wrapped__()

    return pretend


def test_it_says_what_may_explain_a_number():
    taken = environment()
    assert taken["qbench"]["version"] == qbench.__version__
    assert taken["python"] == platform.python_version()
    assert taken["libraries"]["torch"] == metadata.version("torch")
    assert taken["cpu"] == {"model": cpu_model(), "cores": num_cores(), "flags": list(cpu_flags())}
    assert taken["memory_bytes"] > 2**28
    assert json.loads(json.dumps(taken)) == taken


def test_it_is_taken_once_per_process():
    assert environment() is environment()


def test_it_names_no_host_no_user_and_no_path():
    text = json.dumps(environment())
    assert str(Path.home()) + "/" not in text
    assert str(Path(qbench.__file__).parent) not in text
    for name in {socket.gethostname(), getpass.getuser()} - {"root"}:
        assert not re.search(rf"\b{re.escape(name)}\b", text)


def test_variables_that_decide_how_is_computed_are_taken_without_their_folders(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    monkeypatch.setenv("LD_PRELOAD", "/opt/somebody/libtcmalloc.so:/opt/libiomp5.so")
    taken = environment.__wrapped__()
    assert taken["variables"] == {"ATEN_CPU_CAPABILITY": "avx2", "LD_PRELOAD": "libtcmalloc.so:libiomp5.so"}


def test_a_checkout_is_named_by_its_commit():
    folder = Path(qbench.__file__).parent
    tracked = subprocess.run(
        ["git", "-C", folder, "ls-files", "--error-unmatch", "environment.py"], capture_output=True, check=False
    )
    found = module._checkout()
    if tracked.returncode:
        assert found == {}
    else:
        assert re.fullmatch(r"[0-9a-f]{40}", found["commit"])
        assert isinstance(found["dirty"], bool)


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert module._checkout() == {}


def test_an_x86_processor(cpuinfo):
    assert cpuinfo(X86) == ("Some CPU @ 2 GHz", ("avx2", "avx512_vnni", "avx512f", "sse4_2"))


def test_an_arm_processor_has_no_name_but_numbers(cpuinfo):
    assert cpuinfo(ARM) == (f"{platform.machine()} 0x41 0xd40", ("asimd", "i8mm"))


@pytest.mark.skipif(sys.platform == "darwin", reason="asks sysctl there")
def test_without_cpuinfo_the_machine_is_still_named(cpuinfo):
    model, flags = cpuinfo("")
    assert model == (platform.processor() or platform.machine())
    assert flags == ()


def test_cores_are_those_this_process_may_use():
    assert 1 <= num_cores() <= (os.cpu_count() or 1)


def test_the_library_key_holds_versions_only():
    key = library_key("cpu")
    assert key["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert key["torch"] == metadata.version("torch")
    assert "pandas" not in key


def test_a_library_of_gpus_is_in_the_keys_of_their_cells_only(monkeypatch):
    before = library_key("cpu")
    monkeypatch.setattr(module.metadata, "version", lambda name: "1.0")
    assert "cupy-cuda13x" not in library_key("cpu")
    assert library_key("cpu").keys() >= before.keys()
    assert library_key("cuda:1")["cupy-cuda13x"] == "1.0"
    assert library_key("cuda").keys() - library_key("cpu").keys() == {"cupy-cuda13x", "cupy-cuda12x"}


def test_the_hardware_key_holds_the_gpu_that_computes(monkeypatch):
    monkeypatch.setattr(module, "gpus", lambda: [{"name": "first"}, {"name": "second"}])
    assert "gpu" not in hardware_key("cpu")
    assert hardware_key("cuda")["gpu"] == [{"name": "first"}]
    assert hardware_key("cuda:1")["gpu"] == [{"name": "second"}]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({}, math.inf),
        ({"cpu.max": "\n"}, math.inf),
    ],
)
def test_what_a_container_is_granted(tmp_path, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert module._granted_cores(tmp_path) == cores


@pytest.mark.parametrize(("granted", "usable"), [(math.inf, 8), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_no_more_cores_are_used_than_are_granted(monkeypatch, granted, usable):
    monkeypatch.setattr(module, "num_cores", lambda: 8)
    monkeypatch.setattr(module, "_granted_cores", lambda: granted)
    assert usable_cores() == usable
