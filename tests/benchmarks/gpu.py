"""Everything that only a GPU can show about the CUDA kernels, in one command and within minutes.

    python tests/benchmarks/gpu.py --out results.json

First whether they are exact: every case of the exactness test, real layer sizes, CUDA graphs. Then how fast: copy rate
and tensor-core peak, the layers of ResNet-50 against cuDNN in bfloat16, the fused passes against the copy rate, and a
whole training step of ResNet-50. Needs Python 3.11 or newer, PyTorch, CuPy and NumPy; the package itself need not be
installed.

Each section runs in a process of its own: a kernel that reads the wrong memory ends all that its process does on the
GPU, and one that never ends cannot be stopped otherwise. What a section has found so far is kept when it fails, crashes
or runs out of time, and written every few seconds; where a part ends its process, another goes on behind that part. The
whole takes no longer than the budget. Exit code 1 if a kernel is not exact or could not be compared. ``--device cpu
--tiny`` runs the same code on the CPU's kernels with sizes that say nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

if sys.version_info < (3, 11):  # noqa: UP036 (whoever starts this may not have installed the package)
    print(f"gpu.py: qbench needs Python 3.11 or newer, and this is {platform.python_version()}", file=sys.stderr)
    sys.exit(2)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(path) for path in (ROOT, HERE, ROOT / "tests" / "kernels") if str(path) not in sys.path]

import gpu_exactness  # noqa: E402 (the lines above make these importable)
import gpu_layers  # noqa: E402
import gpu_passes  # noqa: E402
import gpu_roofline  # noqa: E402
import gpu_training  # noqa: E402
import torch  # noqa: E402
from gpu_timing import Bench, DeviceLostError, OutOfTimeError  # noqa: E402

BUDGET_S = 520.0
GRACE_S = 15.0
"""That a section may take beyond its time before it is stopped: it looks at the clock between measurements."""

CRASHED, LOST = "crashed", "device lost"
"""What becomes of a process by one part of a section."""

POLL_S = 2.0
"""Between two looks at what a section has written."""

STATE = "clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit,temperature.gpu,memory.used,driver_version"
LOOKS_PER_STATE = 5
"""Seldom, because asking may hold up a launch."""

SHOWN = 1000
"""Characters of a section's results that are printed, in case the file is lost."""


@dataclass(frozen=True)
class Section:
    """share: of the whole budget that it may use, besides what the sections before it have left over."""

    name: str
    run: Callable[[Bench], None]
    share: float
    must_pass: bool = False


SECTIONS = (
    Section("compile", gpu_exactness.compile_all, 0.16),
    Section("exactness", gpu_exactness.all_cases, 0.15, must_pass=True),
    Section("real_sizes", gpu_exactness.real_sizes, 0.08, must_pass=True),
    Section("graphs", gpu_exactness.graphs, 0.04, must_pass=True),
    Section("roofline", gpu_roofline.measure, 0.04),
    Section("layers", gpu_layers.measure, 0.12),
    Section("passes", gpu_passes.measure, 0.05),
    Section("training", gpu_training.eager, 0.18),
    Section("compiled", gpu_training.compiled, 0.18),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and write the results; returns the exit code."""
    options = parsed(arguments)
    if options.child:
        return child(options)
    bench = Bench(torch.device(options.device), options.tiny)
    reason = bench.why_not()
    if reason:
        print(f"gpu.py: {reason}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {"machine": machine(bench.device), "tiny": options.tiny, "sections": {}}
    try:
        write(options.out, results)  # not only when the first section has taken its time
    except OSError as error:
        print(f"gpu.py: the results cannot be written: {error}", file=sys.stderr)
        return 2
    deadline = time.monotonic()
    end = deadline + options.budget
    with tempfile.TemporaryDirectory() as spare:
        share_kernels(bench, spare)
        for section in SECTIONS:
            deadline += section.share * options.budget
            if options.sections and section.name not in options.sections:
                continue
            print(f"{section.name} ...", flush=True)
            run_section(section, options, results, deadline, end)
    ran = [section for section in SECTIONS if section.name in results["sections"]]
    failed = [one.name for one in ran if one.must_pass and results["sections"][one.name]["status"] != "ok"]
    print(f"written: {options.out}" + (f"; NOT EXACT or not compared: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_section(
    section: Section, options: argparse.Namespace, results: dict[str, Any], deadline: float, end: float
) -> None:
    """What it finds is soon in ``results`` and in the file, and the device's states beside it."""
    device: list[str] = []
    looks = count()

    def publish(so_far: dict[str, Any]) -> None:
        if options.device.startswith("cuda") and next(looks) % LOOKS_PER_STATE == 0:
            device.append(state())
        results["sections"][section.name] = {**so_far, "device": device} if device else so_far
        try:
            write(options.out, results)
        except OSError as error:  # there may be room later
            print(f"gpu.py: {error}", file=sys.stderr, flush=True)

    outcome = supervised(command(section, options), deadline - time.monotonic(), end, publish)
    publish(outcome)
    print(f"{section.name}: {outcome['status']} after {outcome['seconds']:.1f} s", flush=True)
    print(json.dumps(outcome)[:SHOWN], flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the code without a GPU")
    parser.add_argument("--tiny", action="store_true", help="sizes for trying the code")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything together")
    names = [section.name for section in SECTIONS]
    parser.add_argument("--sections", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--child", choices=names, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def share_kernels(bench: Bench, spare: str) -> None:
    """Sections hand compiled kernels on through the user's cache folder, or ``spare`` where that cannot be written.

    Else each would compile for itself.
    """
    if not bench.on_gpu:
        return
    from qbench.kernels.cuda.compiler import folder

    try:
        folder().mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder()).close()
    except OSError:
        os.environ["XDG_CACHE_HOME"] = spare


def command(section: Section, options: argparse.Namespace) -> list[str]:
    """What runs one section; its time and the file for its results are added to it."""
    tiny = ["--tiny"] if options.tiny else []
    python = [sys.executable, "-X", "faulthandler"]
    return [*python, str(HERE / "gpu.py"), "--child", section.name, "--device", options.device, *tiny]


def supervised(
    own: Sequence[str], seconds: float, end: float, publish: Callable[[dict[str, Any]], None] = lambda results: None
) -> dict[str, Any]:
    """The results of a section that child processes write, whatever becomes of them: another one goes on behind the
    part that ended the one before.

    seconds: that it may take. end: of everything, in time.monotonic(). publish: called with the results so far.
    """
    start = time.monotonic()
    stop = min(start + seconds, end)
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "section.json"
        while True:
            begun, now = outcome.get("begun", 0), time.monotonic()
            arguments = ["--budget", str(max(1.0, stop - now)), "--out", str(path)]
            limit = max(1.0, min(stop - now + GRACE_S, end - now))
            status = ended([*own, *arguments], limit, lambda: publish(found_in(path)))
            outcome = found_in(path)
            if outcome["status"] == "running":
                outcome["status"] = status or "ended without results"
            elif status:  # all is there, and the driver was left badly
                outcome["ending"] = status
            is_lost = outcome["status"] == LOST or outcome["status"].startswith(CRASHED)
            if not is_lost or outcome.get("begun", 0) <= begun:
                break
            if outcome["status"] != LOST:
                outcome.setdefault("failures", []).append(f"{outcome['running']}: {status}")
            if time.monotonic() > stop:
                break
            write(path, outcome)
    return outcome | {"seconds": time.monotonic() - start}


def found_in(path: Path) -> dict[str, Any]:
    """What a section has written so far."""
    return {"status": "running", **(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})}


def ended(arguments: Sequence[str], limit_s: float, meanwhile: Callable[[], None]) -> str:
    """Waits for a process and its own children; empty where it ended well, else what happened."""
    process = subprocess.Popen(arguments, start_new_session=True)
    end = time.monotonic() + limit_s
    try:
        while (left := end - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(min(left, POLL_S))
                return f"{CRASHED} with exit code {code}" if code else ""
            meanwhile()
        return "stopped: out of time"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # of a process that hangs in the driver
            process.wait(GRACE_S)


def child(options: argparse.Namespace) -> int:
    """One section in this process."""
    section = next(one for one in SECTIONS if one.name == options.child)
    before = found_in(options.out) if options.out.exists() else {}
    bench = Bench(
        torch.device(options.device), options.tiny, lambda results: write(options.out, results), without_end(before)
    )
    write(options.out, run(section, bench, time.monotonic() + options.budget))
    return 0


def without_end(results: dict[str, Any]) -> dict[str, Any]:
    """What a process found, not how it ended."""
    return {key: value for key, value in results.items() if key not in ("status", "error")}


def run(section: Section, bench: Bench, deadline: float) -> dict[str, Any]:
    """What one section gives: its status and results, those so far if it did not end well."""
    bench.begin(deadline)
    error = ""
    try:
        section.run(bench)
        status = "failed" if bench.results.get("failures") else "ok"
    except OutOfTimeError:
        status = "out of time"
    except DeviceLostError as lost:
        status = LOST
        bench.results.setdefault("failures", []).append(f"{bench.results.get('running')}: {lost}"[:500])
    except Exception:
        status, error = "error", traceback.format_exc()
        print(error, file=sys.stderr, flush=True)
    outcome = {"status": status, **bench.results}
    return {**outcome, "error": error} if error else outcome


def write(path: Path, results: dict[str, Any]) -> None:
    """At once, so that what was there before stays until the new text is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    facts: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "device": device.type}
    if device.type == "cuda":
        from qbench.kernels.cuda.nvrtc import version

        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cupy": __import__("cupy").__version__,
            "nvrtc": version(),
            "state": STATE,
            "compilers": [name for name in ("cc", "gcc", "clang", "nvcc") if shutil.which(name)],
        }
    return facts


def state() -> str:
    """STATE as nvidia-smi has it: a device that is slowed down shows other speeds."""
    call = ["nvidia-smi", f"--query-gpu={STATE}", "--format=csv,noheader"]
    try:
        found = subprocess.run(call, check=False, capture_output=True, text=True, timeout=GRACE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"
    return found.stdout.strip() or found.stderr.strip()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that a section's process ends too
    sys.exit(main())
