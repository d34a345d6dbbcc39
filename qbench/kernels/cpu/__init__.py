"""The CPU kernels in C++: one shared library with code for every instruction set, chosen when it is called.

Levels, from slow to fast: ``scalar`` (any CPU), ``neon`` (AArch64), ``avx2``, ``avx512`` (F, BW, DQ, VL: products in
16-bit pairs), ``avxvnni``, ``avx512vnni`` (dot products of bytes and of 16-bit pairs) and ``amx`` (8-bit tiles). The
fastest that the CPU and the operating system offer is used; the environment variable ``QBENCH_ISA`` names another one.
``QBENCH_NATIVE_LIBRARY`` names another build of the library than the one beside this file. Both are read once, when
they are first needed.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

LEVELS = ("scalar", "neon", "avx2", "avx512", "avxvnni", "avx512vnni", "amx")
"""Every level, from slow to fast; a level's place is its number in C++."""

ISA_VARIABLE = "QBENCH_ISA"
LIBRARY_VARIABLE = "QBENCH_NATIVE_LIBRARY"

_limit: str | None = None


class NativeLibraryError(RuntimeError):
    """The library is missing or does not load, or the level asked for does not exist on this machine."""


def available() -> bool:
    """Whether the library is there and loads."""
    return not why_not()


@cache
def why_not() -> str:
    """Why the library cannot be used; empty where it can."""
    try:
        library()
    except NativeLibraryError as error:
        return str(error)
    return ""


@cache
def library() -> ctypes.CDLL:
    """The loaded library. Raises NativeLibraryError where it is missing or does not load."""
    path = library_path()
    if not path.exists():
        if os.environ.get(LIBRARY_VARIABLE):
            raise NativeLibraryError(f"{path} does not exist: look at {LIBRARY_VARIABLE}")
        raise NativeLibraryError("they were not built: install a C++ compiler with OpenMP, then qbench again")
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryError(f"{path} does not load: {error}") from error
    if not hasattr(loaded, "qbench_level_available"):
        raise NativeLibraryError(f"{path} is another library: it has no kernels")
    return loaded


def library_path() -> Path:
    """Where the library is looked for."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    return Path(chosen) if chosen else Path(__file__).with_name("_native.so")


@cache
def levels() -> tuple[str, ...]:
    """The levels that this machine can run, from slow to fast."""
    supports = library().qbench_level_available
    return tuple(name for number, name in enumerate(LEVELS) if supports(number))


def isa() -> str:
    """The level in use. Raises NativeLibraryError where the one asked for is unknown or not available here."""
    return _limit or default_isa()


@cache
def default_isa() -> str:
    """The level that the environment asks for, else the fastest."""
    chosen = os.environ.get(ISA_VARIABLE)
    return _checked(chosen, f"{ISA_VARIABLE}={chosen}") if chosen else levels()[-1]


def level() -> int:
    """The number of the level in use, as the C++ functions take it."""
    return LEVELS.index(isa())


@contextmanager
def limited_to(name: str) -> Iterator[None]:
    """Within the context, use the level ``name``. Raises NativeLibraryError where this machine cannot run it."""
    global _limit  # noqa: PLW0603 - one level for the process
    before, _limit = _limit, _checked(name, f"level {name}")
    try:
        yield
    finally:
        _limit = before


def _checked(name: str, said: str) -> str:
    if name not in LEVELS:
        raise NativeLibraryError(f"{said}: unknown; choose one of {', '.join(LEVELS)}")
    if name not in levels():
        raise NativeLibraryError(f"{said}: this machine cannot run it; it can run {', '.join(levels())}")
    return name
