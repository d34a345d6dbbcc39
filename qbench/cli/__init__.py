"""The command line: one file per verb; what a verb does lives in the packages it calls."""

from __future__ import annotations


def main() -> None:
    """Run the ``qbench`` command and exit: 0 done, 1 a comparison or cell failed, 2 the input is wrong."""
    from qbench.cli.funnel import guarded

    raise SystemExit(guarded())
