"""A wheel holds everything, and works without the source tree it came from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from qbench import __version__
from qbench.variables import check_variables

ROOT = Path(__file__).parents[2]
SHIPPED = {"qbench": "qbench", "methods": "qbench/methods", "suites": "qbench/suites"}
GENERATED = ("__pycache__", "*.pyc", "*.so", "*.egg-info")
NATIVE = "qbench/kernels/cpu/_native.so"

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, because building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("source")
    for folder in SHIPPED:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns(*GENERATED))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def build(source: Path, out: Path, *kind: str, **variables: str) -> Path:
    """The one file that a build makes."""
    run(sys.executable, "-m", "build", *kind, "--no-isolation", "--outdir", out, source, cwd=out, **variables)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the C++ kernels, little optimised because that is quick."""
    if not shutil.which("g++"):
        pytest.skip("no compiler")
    out = tmp_path_factory.mktemp("dist")
    return build(source, out, "--wheel", QBENCH_NATIVE="require", QBENCH_CXXFLAGS="-O1")


@pytest.fixture(scope="module")
def wheel_without_kernels(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built where the compiler fails."""
    copy, out = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("dist")
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", *GENERATED))
    return build(copy, out, "--wheel", CC="false", CXX="false")


def shipped_files(source: Path) -> set[str]:
    return {
        f"{place}/{path.relative_to(source / folder).as_posix()}"
        for folder, place in SHIPPED.items()
        for path in (source / folder).rglob("*")
        if path.is_file() and not any(path.match(pattern) for pattern in GENERATED)
    }


def contents(source: Path, library: set[str]) -> set[str]:
    info = f"qbench-{__version__}.dist-info"
    described = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    return shipped_files(source) | library | {f"{info}/{name}" for name in described}


def test_wheel_holds_every_file_and_nothing_else(source: Path, wheel: Path) -> None:
    """For any Python of one platform: the library does not depend on Python."""
    expected = {
        "qbench/py.typed", "qbench/suites/digits.yaml", "qbench/methods/banner8.py", "qbench/kernels/cpu/encode.cpp",
        "qbench/kernels/cpu/jobs.h", "qbench/kernels/cuda/encode.cu", "qbench/kernels/cuda/random.cuh",
    }  # fmt: skip
    assert expected <= shipped_files(source)
    assert re.fullmatch(rf"qbench-{re.escape(__version__)}-py3-none-(?!any)\w+\.whl", wheel.name)
    assert set(zipfile.ZipFile(wheel).namelist()) == contents(source, {NATIVE})


def test_wheel_without_a_compiler_lacks_the_library_alone(source: Path, wheel_without_kernels: Path) -> None:
    assert wheel_without_kernels.name == f"qbench-{__version__}-py3-none-any.whl"
    assert set(zipfile.ZipFile(wheel_without_kernels).namelist()) == contents(source, set())


def test_a_failing_build_is_loud_or_fatal(source: Path) -> None:
    """The warning names what is missing; with QBENCH_NATIVE=require the build fails."""
    command = [sys.executable, "setup.py", "build_ext", "--build-temp", "temp", "--build-lib", "lib"]
    environment = os.environ | {"CC": "false", "CXX": "false"}
    loud = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert loud.returncode == 0
    assert re.search(r"UserWarning: \n\*+\n\* qbench: THE C\+\+ KERNELS WERE NOT BUILT", loud.stderr)  # pip shows these
    fatal = subprocess.run(
        command, cwd=source, env=environment | {"QBENCH_NATIVE": "require"}, capture_output=True, check=False
    )
    assert fatal.returncode != 0


def test_variables_of_the_build_may_stay_set(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(re.findall(r"QBENCH_[A-Z]+", (source / "setup.py").read_text()))
    assert names == {"QBENCH_NATIVE", "QBENCH_CXXFLAGS"}
    for name in names:
        monkeypatch.setenv(name, "require")
    check_variables()


def test_source_archive_builds_the_kernels(source: Path, tmp_path: Path) -> None:
    archive = build(source, tmp_path, "--sdist")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    wanted = {
        path.relative_to(source).as_posix() for path in (source / "qbench/kernels").rglob("*.[cht]*") if path.is_file()
    }
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {name for name in wanted if not name.endswith((".pyc", ".so"))} <= names


def test_wheel_states_what_it_needs(source: Path, wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = Parser().parsestr(archive.read(f"qbench-{__version__}.dist-info/METADATA").decode())
    project = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(required) == sorted(project["dependencies"])
    assert metadata.get_all("Provides-Extra") == list(project["optional-dependencies"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "qbench = qbench.cli:main" in archive.read(f"qbench-{__version__}.dist-info/entry_points.txt").decode()


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """The scripts of a new environment that holds the wheel; its dependencies are those of the environment in use."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    places = {"base": str(environment), "platbase": str(environment)}
    packages, scripts = (Path(sysconfig.get_path(name, "venv", places)) for name in ("purelib", "scripts"))
    # A folder on the path is searched, but its own .pth files, the editable qbench among them, are not run.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    return scripts


@pytest.mark.timeout(300)
def test_installed_wheel_works_on_its_own(installed: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    code = "import qbench, qbench.methods as m, qbench.suites as s; print(qbench.__file__, m.__file__, s.__file__)"
    origins = run(installed / "python", "-c", code, cwd=work).split()
    assert all(Path(origin).is_relative_to(installed.parent) for origin in origins), origins
    assert run(installed / "qbench", "--version", cwd=work) == f"qbench {__version__}\n"
    listed = [line.split()[0] for line in run(installed / "qbench", "list", "methods", cwd=work).splitlines()]
    assert set(listed) >= {"fp32", "bf16", "banner8", "wageubn", "graham", "binaryconnect", "sr", "r"}
    code = "from qbench.kernels import cpu; print(cpu.available(), cpu.isa() in cpu.levels())"
    assert run(installed / "python", "-c", code, cwd=work) == "True True\n"
    printed = run(installed / "qbench", "run", "smoke", "--device", "cpu", cwd=work)
    assert "2 of 2 cells done (2 now)" in printed
    assert (work / "results" / "runs" / "smoke" / "tables" / "methods.md").is_file()
