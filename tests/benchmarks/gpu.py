"""Everything that only a GPU can show about the CUDA kernels, in one command and within minutes.

    python tests/benchmarks/gpu.py --out results.json

First whether they are exact: every case of the exactness test, real layer sizes, CUDA graphs. Then how fast: copy rate
and tensor-core peak, the layers of ResNet-50 against cuDNN in bfloat16, the fused passes against the copy rate, and a
whole training step of ResNet-50. Needs PyTorch, CuPy and NumPy; the package need not be installed.

Each section writes its results as soon as it ends; one that fails or runs out of time takes nothing from the others.
Exit code 1 if a kernel is not exact or could not be compared. ``--device cpu --tiny`` runs the same code on the CPU's
kernels with sizes that say nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(path) for path in (ROOT, HERE, ROOT / "tests" / "kernels") if str(path) not in sys.path]

import gpu_exactness  # noqa: E402 (the lines above make these importable)
import gpu_layers  # noqa: E402
import gpu_passes  # noqa: E402
import gpu_roofline  # noqa: E402
import gpu_training  # noqa: E402
import torch  # noqa: E402
from gpu_timing import Bench, OutOfTimeError  # noqa: E402

BUDGET_S = 540.0


@dataclass(frozen=True)
class Section:
    """share: of the whole budget that it may use, besides what the sections before it have left over."""

    name: str
    run: Callable[[Bench], dict[str, Any]]
    share: float
    must_pass: bool = False


SECTIONS = (
    Section("compile", gpu_exactness.compile_all, 0.25),
    Section("exactness", gpu_exactness.all_cases, 0.25, must_pass=True),
    Section("real_sizes", gpu_exactness.real_sizes, 0.1, must_pass=True),
    Section("graphs", gpu_exactness.graphs, 0.05, must_pass=True),
    Section("roofline", gpu_roofline.measure, 0.05),
    Section("layers", gpu_layers.measure, 0.1),
    Section("passes", gpu_passes.measure, 0.05),
    Section("training", gpu_training.measure, 0.15),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections and write the results; returns the exit code."""
    options = parsed(arguments)
    bench = Bench(torch.device(options.device), options.tiny)
    reason = bench.why_not()
    if reason:
        print(f"gpu.py: {reason}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {"machine": machine(bench.device), "tiny": options.tiny, "sections": {}}
    deadline = time.monotonic()
    for section in SECTIONS:
        deadline += section.share * options.budget
        if options.sections and section.name not in options.sections:
            continue
        print(f"{section.name} ...", flush=True)
        results["sections"][section.name] = outcome = run(section, bench, deadline)
        write(options.out, results)
        print(f"{section.name}: {outcome['status']} after {outcome['seconds']:.1f} s", flush=True)
    ran = [section for section in SECTIONS if section.name in results["sections"]]
    failed = [one.name for one in ran if one.must_pass and results["sections"][one.name]["status"] != "ok"]
    print(f"written: {options.out}" + (f"; NOT EXACT or not compared: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the code without a GPU")
    parser.add_argument("--tiny", action="store_true", help="sizes for trying the code")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything together")
    names = [section.name for section in SECTIONS]
    parser.add_argument("--sections", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    return parser.parse_args(arguments)


def run(section: Section, bench: Bench, deadline: float) -> dict[str, Any]:
    """What one section gives: its status, results (those so far, if it did not end well) and time."""
    start = time.monotonic()
    bench.begin(deadline)
    error = ""
    try:
        section.run(bench)
        status = "failed" if bench.results.get("failures") else "ok"
    except OutOfTimeError:
        status = "out of time"
    except Exception:
        status, error = "error", traceback.format_exc()
        print(error, file=sys.stderr, flush=True)
    outcome = {"status": status, "seconds": time.monotonic() - start, **bench.results}
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
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cupy": __import__("cupy").__version__,
        }
    return facts


if __name__ == "__main__":
    sys.exit(main())
