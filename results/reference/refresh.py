"""Take over a finished run as a reference: ``python results/reference/refresh.py results/runs/digits``.

Writes tables, plots and the machine of the run to results/reference/<suite>/ and, for the digits suite, the table into
README.md. ``make reference`` runs the suite first.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from qbench.store import Store

HOME = Path(__file__).parent
README = HOME.parents[1] / "README.md"
KEPT = (
    "tables/methods.md", "tables/methods.csv", "tables/cells.csv", "plots/accuracy.png", "plots/accuracy.svg",
    "plots/curves.png", "plots/speed.png", "plots/memory.png",
)  # fmt: skip


def main(run: Path) -> None:
    """Copy what is kept of ``run`` and refresh the README."""
    environment = Store.open(run).records()[0].environment
    target = HOME / run.name
    target.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copyfile(run / name, target / Path(name).name)
    (target / "machine.json").write_text(json.dumps(environment, indent=1, sort_keys=True) + "\n")
    if run.name == "digits":
        README.write_text(with_table(README.read_text(), target))


def with_table(readme: str, reference: Path) -> str:
    """``readme`` with the reference's table and picture between its markers."""
    shown = reference.relative_to(README.parent)
    block = (
        f"{(reference / 'methods.md').read_text().strip()}\n\n"
        f"![Accuracy by method: every seed, mean and interval]({shown}/accuracy.png)\n\n"
        f"Measured on the machine of [{shown}/machine.json]({shown}/machine.json); `make reference` makes it again.\n"
    )
    pattern = re.compile(r"(<!-- digits-table -->\n).*?(<!-- /digits-table -->)", re.DOTALL)
    assert pattern.search(readme), "README.md has lost its digits-table markers"
    return pattern.sub(lambda found: found.group(1) + block + found.group(2), readme)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
