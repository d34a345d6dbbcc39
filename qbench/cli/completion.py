"""Names that the shell completes; nothing here may fail or be slow."""

from __future__ import annotations

from qbench.errors import QbenchError


def complete_suite(incomplete: str) -> list[str]:
    """Built-in suites."""
    from qbench.suite.source import suite_names

    return [name for name in suite_names() if name.startswith(incomplete)]


def complete_method(incomplete: str) -> list[str]:
    """Methods; after the opening bracket, their options."""
    from qbench.catalog import methods

    name, bracket, _ = incomplete.partition("[")
    if not bracket:
        return [known for known in methods().names() if known.startswith(incomplete)]
    try:
        options = [f"{name}[{option.name}=" for option in methods().get(name).options]
    except QbenchError:  # no such method, or one of a package that does not load
        return []
    return [option for option in options if option.startswith(incomplete)]


def complete_probe(incomplete: str) -> list[str]:
    """Probes."""
    from qbench.probes import probe_names

    return [name for name in probe_names() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Runs under ``results/runs``."""
    from qbench.cli.results import run_names

    return [name for name in run_names() if name.startswith(incomplete)]


def complete_format(incomplete: str) -> list[str]:
    """Table formats."""
    return [name for name in ("terminal", "md", "csv", "latex", "json") if name.startswith(incomplete)]
