"""The verbs and their help. Importing this loads neither torch nor rich: ``qbench --help`` is instant."""

from typing import Annotated

import typer

from qbench import __version__
from qbench.cli import check, data, doctor, listing, plot, run, show, table
from qbench.cli.funnel import Funnel, Verb


def _version(wanted: bool) -> None:
    if wanted:
        print(f"qbench {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=Funnel,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: qbench run digits",
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Compare methods for training neural networks in low precision."""


app.command("run", cls=Verb, epilog=run.EXAMPLES)(run.run)
app.command("show", cls=Verb, epilog=show.EXAMPLES)(show.show)
app.command("table", cls=Verb, epilog=table.EXAMPLES)(table.table)
app.command("plot", cls=Verb, epilog=plot.EXAMPLES)(plot.plot)
app.command("list", cls=Verb, epilog=listing.EXAMPLES)(listing.listing)
app.command("check", cls=Verb, epilog=check.EXAMPLES)(check.check)
app.add_typer(data.app, name="data")
app.command("doctor", cls=Verb, epilog=doctor.EXAMPLES)(doctor.doctor)
