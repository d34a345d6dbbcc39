"""The script for a few minutes on a GPU machine, tried on the CPU with sizes that say nothing about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gpu
import gpu_roofline
import gpu_training
import pytest

from qbench.kernels import cuda


@pytest.mark.slow
def test_every_section_runs(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(out)]) == 0
    results = json.loads(out.read_text(encoding="utf-8"))
    sections = results["sections"]
    assert {name: part["status"] for name, part in sections.items()} == {part.name: "ok" for part in gpu.SECTIONS}
    assert errors(sections) == []
    assert sections["exactness"]["cases"] > 0
    assert sections["training"]["sides"]["banner8"]["images_per_s"] > 0


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not gpu.Bench(gpu.torch.device("cuda"), tiny=True).why_not():
        pytest.skip("there is a GPU")
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert "gpu.py:" in capsys.readouterr().err


WRITES = """
import json, pathlib, sys, time
path = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
path.write_text(json.dumps({text}))
{then}
"""


@pytest.mark.parametrize(
    ("text", "then", "expected"),
    [
        ({"status": "ok", "cases": 3}, "", {"status": "ok", "cases": 3}),
        ({"cases": 2}, "time.sleep(60)", {"status": "stopped: out of time", "cases": 2}),
        ({"cases": 1}, "sys.exit(7)", {"status": "crashed with exit code 7", "cases": 1}),
        ({"cases": 1}, "", {"status": "ended without results", "cases": 1}),
        ({"status": "ok"}, "sys.exit(7)", {"status": "ok", "ending": "crashed with exit code 7"}),
    ],
)
def test_what_a_section_found_is_kept(
    text: dict[str, int], then: str, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "GRACE_S", 0.5)
    own = [sys.executable, "-c", WRITES.format(text=text, then=then)]
    outcome = gpu.supervised(own, 1.0, time.monotonic() + 30)
    assert outcome.pop("seconds") < 20
    assert outcome == expected


def test_what_a_section_finds_is_published_while_it_runs() -> None:
    published: list[dict[str, object]] = []
    own = [sys.executable, "-c", WRITES.format(text={"cases": 2}, then=f"time.sleep({2 * gpu.POLL_S})")]
    gpu.supervised(own, 30.0, time.monotonic() + 30, published.append)
    assert published[-1] == {"status": "running", "cases": 2}


ENDS_IN_EVERY_SECOND_PART = """
import json, pathlib, sys
path = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
found = json.loads(path.read_text()) if path.exists() else {"begun": 0, "failures": [], "done": []}
found.pop("status", None)
for part in range(found["begun"] + 1, 6):
    found |= {"begun": part, "running": f"part {part}"}
    path.write_text(json.dumps(found))
    if part % 2 == 0:
        sys.exit(7)
    found["done"].append(part)
path.write_text(json.dumps({"status": "failed", "failures": found["failures"], "done": found["done"]}))
"""


def test_a_section_goes_on_behind_a_part_that_ended_its_process() -> None:
    outcome = gpu.supervised([sys.executable, "-c", ENDS_IN_EVERY_SECOND_PART], 60.0, time.monotonic() + 60)
    failures = [f"part {part}: crashed with exit code 7" for part in (2, 4)]
    assert {**outcome, "seconds": 0} == {"status": "failed", "failures": failures, "done": [1, 3, 5], "seconds": 0}


def test_a_lost_device_costs_the_cases_of_one_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an illegal address every call of a process fails, so the rest is compared in the next one."""
    section = next(one for one in gpu.SECTIONS if one.name == "exactness")
    untouched = gpu.Bench(gpu.torch.device("cpu"), tiny=True)
    every = gpu.run(section, untouched, time.monotonic() + 60)["by_op"]

    def lost(*_: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    def failing(expected: object, found: object, relative: float) -> str:
        if bench.results["kind"] == "decode":
            monkeypatch.setattr(bench, "synchronize", lost)
            lost()
        return ""

    monkeypatch.setattr(gpu.gpu_exactness, "difference", failing)
    bench = gpu.Bench(gpu.torch.device("cpu"), tiny=True)
    first = gpu.run(section, bench, time.monotonic() + 60)
    assert first["status"] == gpu.LOST and first["kind"] == "decode"
    bench = gpu.Bench(gpu.torch.device("cpu"), tiny=True, before=gpu.without_end(first))
    second = gpu.run(section, bench, time.monotonic() + 60)
    assert (second["status"], second["lost"]) == ("failed", ["decode"])
    assert second["failures"] == [f"{first['running']}: an illegal memory access was encountered"]
    assert second["by_op"] == {**every, "decode": 1}


def test_a_place_that_cannot_be_written_is_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "run_section", lambda *_: pytest.fail("a section runs"))
    (tmp_path / "file").write_text("")
    assert gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path / "file" / "gpu.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for child processes in /proc")
def test_whoever_ends_it_ends_the_section_too(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--tiny", "--sections", "training", "--out", str(out)]
    process = subprocess.Popen([sys.executable, str(gpu.HERE / "gpu.py"), *arguments])
    children: list[str] = []
    while not children and process.poll() is None:
        time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.terminate()
    assert process.wait(30) == 128 + 15
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert "machine" in json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("steps_before", [0, 3])
def test_a_side_that_fails_leaves_the_others(steps_before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its first step, where its memory is measured, or where it is timed."""
    sides = [gpu_training.Side(name, gpu_training.float32) for name in ("bf16", "failing", "last")]
    run = gpu_training.Step.run

    def failing(step: gpu_training.Step) -> None:
        if step._side.name == "failing" and step.converted.clock.step == steps_before:
            raise RuntimeError("no kernel")
        run(step)

    monkeypatch.setattr(gpu_training.Step, "run", failing)
    bench = gpu.Bench(gpu.torch.device("cpu"), tiny=True)
    gpu_training.measure(bench, sides)
    found = bench.results["sides"]
    assert found["failing"]["error"] == "RuntimeError: no kernel"
    assert [name for name in found if "images_per_s" in found[name]] == ["bf16", "last"]
    seconds = {name: found[name]["step_s"][0] for name in ("bf16", "last")}
    assert found["last"]["times_speed_of"] == {"bf16": seconds["bf16"] / seconds["last"]}


@pytest.mark.parametrize("can_write", [True, False])
def test_sections_share_compiled_kernels(can_write: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if cuda._why_no_compiler():
        pytest.skip("CuPy or NVRTC is not installed")
    own = tmp_path / "own"
    if not can_write:
        own.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(own))
    gpu.share_kernels(gpu.Bench(gpu.torch.device("cuda"), tiny=True), "spare")
    assert os.environ["XDG_CACHE_HOME"] == (str(own) if can_write else "spare")


@pytest.mark.slow
def test_a_side_that_takes_all_the_time_leaves_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = [gpu_training.Side(name, gpu_training.float32) for name in ("first", "endless")]
    run = gpu_training.Step.run

    def endless(step: gpu_training.Step) -> None:
        if step._side.name == "endless":
            raise gpu.OutOfTimeError
        run(step)

    monkeypatch.setattr(gpu_training.Step, "run", endless)
    bench = gpu.Bench(gpu.torch.device("cpu"), tiny=True)
    with pytest.raises(gpu.OutOfTimeError):
        gpu_training.measure(bench, sides)
    assert bench.results["sides"]["first"]["images_per_s"] > 0


def test_compiling_is_tried_last() -> None:
    """And in a process of its own: it may take all the time, or there may be no C compiler, which it needs."""
    assert not any(side.compiled for side in gpu_training.EAGER)
    assert [side.compiled for side in gpu_training.COMPILED] == [False, True]


def test_ratios_are_to_the_faster_of_eager_and_captured_steps() -> None:
    side = {"step_s": [0.3, 0.1, 0.2]}
    assert gpu_training.fastest(side) == 0.2
    assert gpu_training.fastest({**side, "graph": {"step_s": 0.15}}) == 0.15
    assert gpu_training.fastest({**side, "graph": {"error": "no kernel"}}) == 0.2


def test_what_was_running_is_known_when_a_section_never_ends() -> None:
    published: list[dict[str, object]] = []
    bench = gpu.Bench(gpu.torch.device("cpu"), True, lambda results: published.append(dict(results)))
    bench.begin(time.monotonic() + 60)
    for part in ("first", "second"):
        bench.start(part)
    assert [(one["begun"], one["running"]) for one in published] == [(1, "first"), (2, "second")]
    bench.done()
    assert bench.results == {}


BLOCKED = """
import importlib.abc, importlib.machinery, runpy, sys

class Missing(importlib.abc.Loader):
    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named '{{spec.name}}'", name=spec.name)
    def exec_module(self, module):
        pass

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            return importlib.machinery.ModuleSpec(name, Missing())

sys.meta_path.insert(0, Finder())
sys.argv = {arguments}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
OTHERS = {
    "annotated_types", "llvmlite", "matplotlib", "numba", "pandas", "PIL", "psutil", "pyarrow", "pydantic",
    "pydantic_core", "pytest", "rich", "ruamel", "scipy", "seaborn", "sklearn", "typer",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("section", [one.name for one in gpu.SECTIONS])
def test_needs_pytorch_numpy_and_cupy_alone(section: str, tmp_path: Path) -> None:
    out = tmp_path / "section.json"
    arguments = [str(gpu.HERE / "gpu.py"), "--child", section, "--device", "cpu", "--tiny", "--out", str(out)]
    program = BLOCKED.format(names=OTHERS, arguments=arguments)
    run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert errors(json.loads(out.read_text(encoding="utf-8"))) == []


def test_an_old_python_is_told_so() -> None:
    program = "import runpy, sys; sys.version_info = (3, 10, 13); runpy.run_path(sys.argv[1], run_name='__main__')"
    script = str(gpu.HERE / "gpu.py")
    run = subprocess.run([sys.executable, "-c", program, script], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert run.stderr.startswith("gpu.py: qbench needs Python 3.11 or newer")


def test_the_peak_kernel_compiles() -> None:
    if cuda._why_no_compiler():
        pytest.skip("CuPy or NVRTC is not installed")
    code = gpu_roofline.peak_code(90)
    assert code.name == "mma_peak" and code.binary.startswith(b"\x7fELF")
    assert gpu_roofline.SOURCE.read_text().count(f"PRODUCTS = {gpu_roofline.PEAK_PRODUCTS};") == 1


def test_shares_add_up_to_the_budget() -> None:
    assert sum(section.share for section in gpu.SECTIONS) == pytest.approx(1.0)


def errors(part: object) -> list[str]:
    """Whatever a section has noted beside its results."""
    if not isinstance(part, dict):
        return []
    own = [part["error"]] if "error" in part else []
    return own + [found for value in part.values() for found in errors(value)]
