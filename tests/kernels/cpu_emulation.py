"""The C++ kernels with plain C++ in place of the instructions that this CPU lacks (cpu_shim/), for the levels that the
package's own library cannot run here: one more library and two programs, kept from one run of the tests to the next."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock

from qbench.kernels import cpu

HERE = Path(__file__).parent
SOURCES, SHIM = Path(cpu.__file__).parent, HERE / "cpu_shim"
PROGRAMS = ("cpu_products_runner", "cpu_passes_digest")
FOLDER = HERE.parent.parent / "build" / "cpu-emulation"
LEVELS = tuple(level for level in cpu.LEVELS if level != "neon")

# What the package is built with, but for the time that the compiler takes.
FLAGS = ("-O1", "-g0", "-std=c++17", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno")
EMULATED_FLAGS = (*FLAGS, "-mavx2", "-mfma", "-Wno-psabi", f"-I{SHIM}")
TARGET = re.compile(r"^#pragma GCC target\(.*\)$", re.MULTILINE)
CXX = shutil.which("g++")


@cache
def why_not() -> str:
    """Why nothing is emulated here; empty where it is."""
    if CXX is None:
        return "the emulation needs g++"
    return "" if cpu.available() and "avx2" in cpu.levels() else "the emulation needs AVX2"


def why_not_level(level: str) -> str:
    """Why a level can be tested neither by the package's library nor by the emulation; empty where it can."""
    if level in cpu.levels():
        return ""
    missing = f"this CPU has no {level}"
    if level not in LEVELS:
        return missing
    return f"{missing}, and {why_not()}" if why_not() else ""


@contextmanager
def limited_to(level: str) -> Iterator[None]:
    """Within the context, use a level: of the emulation where the package's library cannot run it."""
    if level in cpu.levels():
        with cpu.limited_to(level):
            yield
        return
    emulated = library()
    import pytest  # which the cases' other users, on a machine with a GPU, may lack

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "library", lambda: emulated)
        patch.setattr(cpu, "levels", lambda: LEVELS)
        with cpu.limited_to(level):
            yield


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(str(link(kernels(), built() / "library.so", "-shared")))


def program(name: str, replaced: Mapping[str, Path] | None = None, target: Path | None = None) -> Path:
    """One of PROGRAMS; at ``target``, with other objects in place of some of its own."""
    objects = kernels() | {name: built() / f"{name}.o"} | dict(replaced or {})
    return link(objects, target or built() / name)


def link(objects: Mapping[str, Path], target: Path, *flags: str) -> Path:
    """Links unless it is there: by another name first, for other processes that wait for it."""
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        subprocess.run([str(CXX), "-fopenmp", *flags, *map(str, objects.values()), "-o", str(unfinished)], check=True)
        unfinished.rename(target)
    return target


def kernels() -> dict[str, Path]:
    """The objects of the library by the names of their sources."""
    return {path.stem: built() / f"{path.stem}.o" for path in SOURCES.glob("*.cpp")}


@cache
def built() -> Path:
    """The folder with the objects of the kernels and the programs; compiled by the first process that asks."""
    folder = FOLDER / made_from()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / "lock"):
        if not (folder / "done").exists():
            copy_sources(folder / "sources")
            programs = [HERE / f"{name}.cpp" for name in PROGRAMS]
            compile_all([*(folder / "sources").glob("*.cpp"), *programs], folder / "sources", folder)
            (folder / "done").touch()
            for other in set(FOLDER.glob("*")) - {folder, FOLDER / "lock"}:
                shutil.rmtree(other)
    return folder


def made_from() -> str:
    files = [
        *SOURCES.glob("*.cpp"),
        *SOURCES.glob("*.h"),
        *(SHIM / name for name in ("immintrin.h", "tiles.h", "isa.cpp")),
        Path(__file__),
    ]
    files += [HERE / f"{name}.cpp" for name in PROGRAMS]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(files))).hexdigest()[:16]


def copy_sources(to: Path) -> Path:
    """The kernels' sources with no target beyond AVX2, so that the compiler uses nothing of its own that is missing."""
    to.mkdir(exist_ok=True)
    for path in [*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")]:
        (to / path.name).write_text(TARGET.sub("", path.read_text()))
    shutil.copy(SHIM / "isa.cpp", to)
    return to


def compile_all(
    files: Iterable[Path], headers: Path, to: Path, compiler: str = str(CXX), flags: tuple[str, ...] = EMULATED_FLAGS
) -> list[Path]:
    def compiled(file: Path) -> Path:
        target = to / f"{file.stem}.o"
        command = [compiler, *flags, f"-I{headers}", "-c", str(file), "-o", str(target)]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[:4000]
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compiled, files))
