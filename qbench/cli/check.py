"""``qbench check``: the promises every method makes, tried on one of them."""

from typing import Annotated

import typer

from qbench.cli.completion import complete_method

EXAMPLES = """\b
Examples:
  qbench check banner8
  qbench check ./mine.py:my_method"""


def check(
    method: Annotated[
        str,
        typer.Argument(
            help="A method's name, FILE.py, or FILE.py:NAME.", metavar="METHOD", autocompletion=complete_method
        ),
    ],
) -> None:
    """Check what a method promises.

    Runs the contract suite on a method, built-in or your own. Exit code 1 if it breaks a promise.
    """
    from qbench.catalog import find_method
    from qbench.report.text import clean
    from qbench.suite.entries import build_recipe
    from qbench.train.contract import check_method
    from qbench.variables import check_variables

    check_variables()
    found = find_method(method)
    build_recipe(found, {})  # what gives no recipe is bad input, not a method that breaks a promise
    print(clean(f"{found.name}: {found.summary}"))
    results = check_method(found, method)
    for result in results:
        print(clean(f"  {'passed' if result.passed else 'FAILED'}  {result.name}: {result.detail}"))
    failed = sum(not result.passed for result in results)
    print(f"{failed} of {len(results)} checks failed" if failed else f"all {len(results)} checks passed")
    raise typer.Exit(int(failed > 0))
