"""``qbench list``: what there is to choose from."""

from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  qbench list methods
  qbench list methods -v"""


def listing(
    what: Annotated[str, typer.Argument(help="methods, models, datasets, suites or plots.", metavar="WHAT")],
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="With options, defaults and origin.")] = False,
) -> None:
    """List methods, models, datasets, suites or plots."""
    from qbench.cli.inventory import inventory_lines

    for line in inventory_lines(what, verbose=verbose):
        print(line)
