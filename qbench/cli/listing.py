"""``qbench list``: what there is to choose from."""

from pathlib import Path
from typing import Annotated

import typer

from qbench.errors import InputError

EXAMPLES = """\b
Examples:
  qbench list methods
  qbench list methods -v
  qbench list probes -v
  qbench list methods --docs docs/methods"""


def listing(
    what: Annotated[
        str, typer.Argument(help="methods, models, datasets, suites, probes, experiments or plots.", metavar="WHAT")
    ],
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="With options, what they mean, and origin.")] = False,
    docs: Annotated[Path | None, typer.Option(help="Write a page per built-in method here.", metavar="DIR")] = None,
) -> None:
    """List what there is to choose from.

    Methods, models, datasets, suites, probes, experiments or plots.
    """
    if docs is not None:
        if what != "methods":
            raise InputError(f"only methods have pages: --docs goes with 'qbench list methods', not '{what}'")
        from qbench.cli.method_pages import write_pages

        print(f"{len(write_pages(docs))} pages in {docs}")
        return
    from qbench.cli.inventory import inventory_lines

    for line in inventory_lines(what, verbose=verbose):
        print(line)
