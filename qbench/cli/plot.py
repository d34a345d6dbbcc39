"""``qbench plot``: a run's results as pictures."""

from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.completion import complete_run

EXAMPLES = """\b
Examples:
  qbench plot digits
  qbench plot digits --only accuracy --only curves --out figures"""


def plot(
    run: Annotated[
        str,
        typer.Argument(
            help="A results directory, or a name under results/runs.", metavar="RUN", autocompletion=complete_run
        ),
    ],
    only: Annotated[
        list[str] | None, typer.Option(help="Draw only this plot (see 'qbench list plots'); may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the pictures [default: RUN/plots].")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The method, as labelled, that is drawn as the reference [default: fp32].")
    ] = None,
) -> None:
    """Draw a run's results.

    As PNG and SVG: accuracy by method, learning curves, accuracy against speed and against memory, and what probes
    observed; of a theory suite, what was measured beside the known answers. Replaces the pictures that are there.
    """
    from qbench.cli.results import open_run, print_drawn, read_run
    from qbench.cli.theory import plot_theory
    from qbench.errors import InputError
    from qbench.report.entries import BASELINE
    from qbench.report.plots import find_plot, write_plots
    from qbench.theory.results import is_theory

    store = open_run(run)
    if is_theory(store):
        plot_theory(store, out or store.path / "plots", only or (), baseline=baseline)
        return
    names = [find_plot(name).name for name in only or ()]
    records, measures = read_run(store)
    drawn = write_plots(records, measures, out or store.path / "plots", only=names, baseline=baseline or BASELINE)
    if not drawn.paths:
        raise InputError("; ".join(f"no plot {sentence}" for sentence in drawn.skipped))
    print_drawn(drawn)
