"""Build of the CPU kernels: one shared library from every C++ file of qbench/kernels/cpu, loaded through ctypes.

The library uses neither Python's nor PyTorch's headers, so one build serves every Python version of a platform. It is
optional: without a compiler the installation goes on, and the slower kernels in numba and torch are used. The
environment variable QBENCH_NATIVE changes that: ``require`` makes a failing build an error, ``off`` leaves it out.
QBENCH_CXXFLAGS holds more flags for the compiler.
"""

from __future__ import annotations

import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LIBRARY = "qbench.kernels.cpu._native"
FOLDER = Path("qbench/kernels/cpu")
COMPILE = ["-O3", "-g0", "-std=c++17", "-fopenmp", "-fvisibility=hidden", "-Wall"]
# Every float operation is rounded, so that all backends agree bit for bit.
COMPILE += ["-ffp-contract=off", "-fno-math-errno"]
# GCC's own vector intrinsics start from variables that nothing sets.
COMPILE += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
LINK = ["-fopenmp"]

WARNING = """
****************************************************************************************
* qbench: THE C++ KERNELS WERE NOT BUILT.
*
* {reason}
*
* qbench works without them, but integer arithmetic on the CPU is many times slower.
* Install a C++17 compiler with OpenMP (g++ >= 11 or clang++ >= 14 with libomp), then
* install qbench again. `qbench doctor` shows which kernels are in use.
****************************************************************************************
"""


def mode() -> str:
    """What to do about the library: ``auto``, ``require`` or ``off``."""
    chosen = os.environ.get("QBENCH_NATIVE", "auto")
    if chosen not in ("auto", "require", "off"):
        raise SystemExit(f"QBENCH_NATIVE={chosen}: choose auto, require or off")
    return chosen


def files_of(source: Path) -> set[Path]:
    """A source and the headers it includes."""
    named = re.findall(r'^#include "(.+)"', source.read_text(encoding="utf-8"), re.MULTILINE)
    return {source}.union(*(files_of(source.parent / name) for name in named))


class BuildLibrary(build_ext):
    """Compiles the sources in parallel and links them. Objects newer than what they are made of are kept."""

    def run(self) -> None:
        is_in_place = self.inplace or self.editable_mode
        try:
            if mode() == "off":
                raise OSError("QBENCH_NATIVE=off")
            super().run()
        except (Exception, SystemExit) as error:  # distutils raises both, for a missing and for a failing compiler
            if is_in_place:
                Path(self.get_ext_filename(LIBRARY)).unlink(missing_ok=True)  # one of other sources must not be used
            if mode() == "require":
                raise
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        # Installers hide what a build prints; of its warnings newer ones show those that users should see.
        warnings.warn(WARNING.format(reason="\n* ".join(reason.splitlines())), UserWarning, stacklevel=2)
        self.extensions = []
        self.distribution.ext_modules = []
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True  # what is left serves every platform

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = COMPILE + os.environ.get("QBENCH_CXXFLAGS", "").split()

        def compiled(source: str) -> str:
            (name,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
            newest = max(path.stat().st_mtime for path in {Path(__file__), *files_of(Path(source))})
            if not Path(name).exists() or Path(name).stat().st_mtime < newest:
                self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=flags)
            return name

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, ext.sources))
        self.compiler.link_shared_object(objects, str(target), extra_postargs=LINK, target_lang="c++")

    def get_ext_filename(self, ext_name: str) -> str:
        """No tag of a Python version: the library does not depend on it."""
        return str(Path(*ext_name.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


class PlatformWheel(bdist_wheel):
    """py3-none-<platform>: any Python, one platform. py3-none-any where the library was left out."""

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if self.root_is_pure else ("py3", "none", platform)


def extension() -> Extension:
    sources = sorted(path.as_posix() for path in FOLDER.glob("*.cpp"))
    headers = sorted(path.as_posix() for path in FOLDER.glob("*.h"))
    return Extension(LIBRARY, sources, depends=headers, language="c++")


# setuptools' advice on folders beside the package: here they are meant to be beside it.
warnings.filterwarnings("ignore", message="Editable installation")

commands: dict[str, Any] = {"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel}
setup(ext_modules=[extension()], cmdclass=commands)
