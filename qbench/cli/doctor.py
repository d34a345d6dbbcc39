"""``qbench doctor``: what this machine offers, and whether it works."""

import typer

EXAMPLES = "Example: qbench doctor"


def doctor() -> None:
    """Check this machine.

    Shows machine, libraries, backends, caches and self-tests, without network. Exit code 1 if a test fails.
    """
    from qbench.cli.diagnosis import diagnose

    facts = list(diagnose())
    width = max(len(fact.name) for fact in facts)
    for fact in facts:
        print(f"{fact.name:<{width}}  {fact.text}")
    raise typer.Exit(int(any(fact.is_fault for fact in facts)))
