"""``qbench show``: how a run stands, what failed, and its table."""

from typing import Annotated

import typer

from qbench.cli.completion import complete_run

EXAMPLES = """\b
Examples:
  qbench show digits
  qbench show digits --manifest banner8"""


def show(
    run: Annotated[
        str,
        typer.Argument(
            help="A results directory, or a name under results/runs.", metavar="RUN", autocompletion=complete_run
        ),
    ],
    manifest: Annotated[
        str | None,
        typer.Option(
            help="Show what this method, as labelled, declares for each layer and data path, and what was observed.",
            metavar="METHOD",
        ),
    ] = None,
) -> None:
    """Show how a run stands.

    Cells done, what failed and why, the machine, the table. Works while the run is going on.
    """
    from qbench.cli.overview import manifest_grids, overview_lines
    from qbench.cli.results import open_run, print_grids
    from qbench.cli.theory import show_theory
    from qbench.errors import InputError
    from qbench.report.aggregate import method_table
    from qbench.report.grid import method_grids
    from qbench.theory.results import is_theory

    store = open_run(run)
    if is_theory(store):
        if manifest is not None:
            raise InputError(f"--manifest: '{run}' is a theory run, in which no method declares data paths")
        show_theory(store)
        return
    records, measures = store.records(), store.measures()
    if manifest is not None:
        print_grids(manifest_grids(records, manifest))
        return
    for line in overview_lines(store, records, measures):
        print(line)
    if records or measures:
        print()
        print_grids(method_grids(method_table(records, measures, waiting=store.waiting(records))))
