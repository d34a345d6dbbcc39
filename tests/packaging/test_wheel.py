"""A wheel holds everything, and works without the source tree it came from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from qbench import __version__

ROOT = Path(__file__).parents[2]
SHIPPED = {"qbench": "qbench", "methods": "qbench/methods", "suites": "qbench/suites"}
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so", "*.egg-info")

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
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
        shutil.copytree(ROOT / folder, copy / folder, ignore=NOT_SHIPPED)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    (built,) = out.iterdir()
    return built


def test_wheel_holds_every_file_and_nothing_else(source: Path, wheel: Path) -> None:
    shipped = {
        f"{place}/{path.relative_to(source / folder).as_posix()}"
        for folder, place in SHIPPED.items()
        for path in (source / folder).rglob("*")
        if path.is_file()
    }
    assert {"qbench/py.typed", "qbench/suites/digits.yaml", "qbench/methods/banner8.py"} <= shipped
    assert wheel.name == f"qbench-{__version__}-py3-none-any.whl"
    info = f"qbench-{__version__}.dist-info"
    described = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    assert set(zipfile.ZipFile(wheel).namelist()) == shipped | {f"{info}/{name}" for name in described}


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
    printed = run(installed / "qbench", "run", "smoke", "--device", "cpu", cwd=work)
    assert "2 of 2 cells done (2 now)" in printed
    assert (work / "results" / "runs" / "smoke" / "tables" / "methods.md").is_file()
