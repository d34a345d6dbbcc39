"""The C++ kernels touch no memory but their operands', and do nothing that C++ leaves undefined, at any level."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import cpu_emulation
import pytest
from filelock import FileLock

SANITIZE = "-fsanitize=address,undefined"
FLAGS = (SANITIZE, "-fno-sanitize=alignment", *cpu_emulation.EMULATED_FLAGS, "-g1")
"""Vectors are loaded from any address, which the instructions allow."""

FOLDER = cpu_emulation.FOLDER.parent / "cpu-sanitized"
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0:detect_odr_violation=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def runtimes() -> list[str]:
    """The sanitizers' libraries, which have to be there before Python; empty without them."""
    found = [
        subprocess.run(
            [str(cpu_emulation.CXX), f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return found if all(os.path.isabs(path) for path in found) else []


@pytest.fixture(scope="module")
def library() -> Path:
    """Built by the first process that asks, and kept from one run of the tests to the next."""
    if cpu_emulation.why_not() or not runtimes():
        pytest.skip(cpu_emulation.why_not() or "g++ has no sanitizers here")
    folder = FOLDER / f"{cpu_emulation.made_from()}-{zlib.crc32(' '.join(FLAGS).encode()):x}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / "lock"):
        if not (folder / "library.so").exists():
            sources = cpu_emulation.copy_sources(folder / "sources")
            objects = cpu_emulation.compile_all(sorted(sources.glob("*.cpp")), sources, folder, flags=FLAGS)
            cpu_emulation.link({path.stem: path for path in objects}, folder / "library.so", "-shared", SANITIZE)
            for other in set(FOLDER.glob("*")) - {folder, FOLDER / "lock"}:
                shutil.rmtree(other)
    return folder / "library.so"


def run(library: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **OPTIONS, "LD_PRELOAD": " ".join(runtimes()), "OMP_NUM_THREADS": "2"}
    command = [sys.executable, str(Path(__file__).with_name("cpu_sanitized.py")), str(library), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_no_kernel_leaves_its_operands(library: Path) -> None:
    done = run(library, "20", "12")
    assert done.returncode == 0, done.stderr[:3000]
    assert not re.search("runtime error|ERROR: AddressSanitizer", done.stderr), done.stderr[:3000]
    assert int(done.stdout.split()[0]) > 5000


@pytest.mark.slow
def test_one_element_too_many_is_seen(library: Path) -> None:
    done = run(library, "beyond")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr, done.stderr[:3000]
