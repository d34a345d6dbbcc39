"""Take over what was measured as a reference, and into README.md.

``python results/reference/refresh.py results/runs/digits`` writes tables, plots and the machine of a finished run to
results/reference/<suite>/ and, for the digits suite, the table into README.md; ``make reference`` runs the suite first.
``python results/reference/refresh.py results/reference/bench/FILE.json`` takes a kept table of benchmarks.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from qbench.errors import InputError, QbenchError
from qbench.store import Store
from qbench.store.files import changed_line

HOME = Path(__file__).parent
README = HOME.parents[1] / "README.md"
KEPT = (
    "tables/methods.md", "tables/methods.csv", "tables/cells.csv", "plots/accuracy.png", "plots/accuracy.svg",
    "plots/curves.png", "plots/speed.png", "plots/memory.png",
)  # fmt: skip


SPEEDS = HOME / "bench" / "amd-epyc-avx512vnni.json"
"""The benchmarks that README.md shows."""
COLUMNS = {
    "float32, AVX2": ("speed without AMX: avx2", "best of fp32"),
    "float32, AVX-512": ("speed without AMX: avx512", "best of fp32"),
    "float32, AVX512-VNNI": ("speed without AMX: avx512vnni", "best of fp32"),
    "bfloat16, AVX512-BF16": ("speed", "best of bf16"),
}
"""Columns of the table of speeds: section and baseline of the benchmarks' rows."""


def main(*arguments: str) -> int:
    """Take over a run's folder or a file of benchmarks; the exit code. What is wrong is one sentence on stderr."""
    try:
        if len(arguments) != 1:
            raise InputError("name a run's folder or a kept table of benchmarks, one of them")
        measured = Path(arguments[0]).resolve()
        (take_speeds if measured.suffix == ".json" else take_run)(measured)
    except QbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def take_run(run: Path) -> None:
    """Copy what is kept of ``run`` and refresh the README. Raises InputError where that is no finished run, where its
    records were changed, and where nobody could run it again because its sources are in no commit."""
    store = Store.open(run)
    records = store.records()
    missing = [name for name in KEPT if not (run / name).is_file()]
    if not records or missing:
        raise InputError(
            f"{run} is no finished run of cells: it has no {missing[0] if missing else 'records'}; name a run's folder"
        )
    if store.waiting(records):
        raise InputError(f"{run} is no finished run: some of its cells have not run; continue it with 'qbench run'")
    changed = store.changed()
    if changed:
        raise InputError(changed_line(changed[0]))
    environment = records[0].environment
    if any(record.environment["qbench"].get("dirty") for record in records):
        raise InputError(
            f"{run} was trained by sources that no commit holds: commit them and run it again in a new folder"
        )
    target = HOME / run.name
    target.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copyfile(run / name, target / Path(name).name)
    (target / "machine.json").write_text(json.dumps(environment, indent=1, sort_keys=True) + "\n")
    if run.name == "digits":
        README.write_text(with_table(README.read_text(), target))


def take_speeds(bench: Path) -> None:
    """Show the benchmarks of ``bench`` in the README. Raises InputError where it is no such file."""
    if bench.parent != SPEEDS.parent:
        raise InputError(f"{bench} is not in {SPEEDS.parent}, where benchmarks are kept; move it there")
    try:
        readme = with_speeds(README.read_text(), bench)
    except OSError as error:
        raise InputError(f"{bench} cannot be read: {error.strerror}; name a file that is there") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{bench} is no table of benchmarks with {', '.join(COLUMNS)}; 'make bench' prints where it writes one"
        ) from None
    README.write_text(readme)


def with_table(readme: str, reference: Path) -> str:
    """``readme`` with the reference's table and picture between its markers."""
    shown = reference.relative_to(README.parent)
    block = (
        f"{(reference / 'methods.md').read_text().strip()}\n\n"
        f"![Accuracy by method: every seed, mean and interval]({shown}/accuracy.png)\n\n"
        f"Measured on the machine of [{shown}/machine.json]({shown}/machine.json); `make reference` makes it again.\n"
    )
    return _between(readme, "digits-table", block)


def with_speeds(readme: str, bench: Path) -> str:
    """``readme`` with the factors by which whole steps outrun the baselines between its markers."""
    rows = json.loads(bench.read_text())["rows"]
    cells = {(row["subject"], row["section"], row["against"]): _factor(row) for row in rows}
    steps = dict.fromkeys(row["subject"] for row in rows if row["section"] == "speed")
    lines = [f"| step, against the best | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    lines += [f"| {step} | {' | '.join(cells[step, *column] for column in COLUMNS.values())} |" for step in steps]
    shown = bench.relative_to(README.parent)
    return _between(readme, "speed-table", "\n".join(lines) + f"\n\nMeasured on the machine of [{shown}]({shown}).\n")


def _factor(row: dict[str, Any]) -> str:
    if row["ratio"] is None:
        return "-"
    low, high = row["interval"] or (row["ratio"], row["ratio"])
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _between(readme: str, name: str, block: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    assert pattern.search(readme), f"README.md has lost its {name} markers"
    return pattern.sub(lambda found: found.group(1) + block + found.group(2), readme)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
