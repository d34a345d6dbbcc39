"""``qbench table``: a run's results as a table in one of several formats."""

from pathlib import Path
from typing import Annotated

import typer

from qbench.cli.completion import complete_format, complete_run

EXAMPLES = """\b
Examples:
  qbench table digits
  qbench table digits --output table.tex
  qbench table digits --format csv --cells"""


def table(
    run: Annotated[
        str,
        typer.Argument(
            help="A results directory, or a name under results/runs.", metavar="RUN", autocompletion=complete_run
        ),
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="terminal, md, csv, latex or json [default: by the ending of --output, else terminal].",
            autocompletion=complete_format,
        ),
    ] = None,
    cells: Annotated[bool, typer.Option("--cells", help="One row per cell instead of one per method.")] = False,
    baseline: Annotated[
        str | None,
        typer.Option(help="The method, as labelled, that differences and ratios refer to [default: fp32]."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file, not to stdout: .txt, .md, .csv, .tex or .json."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Print a run's results as a table.

    One row per method with its differences to fp32, or one row per cell; of a theory suite, one row per known answer.
    CSV and JSON hold every figure in full.
    """
    from qbench.cli.results import open_run, print_grids, read_run
    from qbench.cli.theory import table_theory
    from qbench.report.aggregate import method_table
    from qbench.report.cells import STABLE_COLUMNS, cells_frame
    from qbench.report.entries import BASELINE
    from qbench.report.files import refuse_overwrite, write_file
    from qbench.report.grid import cells_grid, method_grids
    from qbench.report.render import find_format, format_of
    from qbench.theory.results import is_theory

    chosen = format_of(output) if format_ is None and output is not None else find_format(format_ or "terminal")
    if output is not None:
        refuse_overwrite(output, force=force)
    store = open_run(run)
    if is_theory(store):
        table_theory(store, chosen.name, output, cells=cells, baseline=baseline)
        return
    records, measures = read_run(store)
    frame = cells_frame(records, measures) if cells else None
    methods = method_table(records, measures, baseline=baseline or BASELINE, waiting=store.waiting(records))
    if chosen.name == "terminal" and output is None:
        print_grids(method_grids(methods) if frame is None else [cells_grid(frame, list(STABLE_COLUMNS))])
        return
    content = chosen.methods(methods) if frame is None else chosen.cells(frame)
    if output is None:
        print(content, end="")
    else:
        write_file(output, content)
        print(f"written: {output}")
