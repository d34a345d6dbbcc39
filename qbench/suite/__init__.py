"""Suites: a YAML file becomes a checked :class:`Suite`, the suite becomes cells."""

from qbench.suite.choices import Choice
from qbench.suite.entries import Entry
from qbench.suite.load import Overrides, load_suite
from qbench.suite.model import Suite
from qbench.suite.plan import Plan, PlannedCell, PlannedMethod, Skipped, make_plan
from qbench.suite.selection import Selection, parse_selection
from qbench.suite.source import suite_names

__all__ = [
    "Choice",
    "Entry",
    "Overrides",
    "Plan",
    "PlannedCell",
    "PlannedMethod",
    "Selection",
    "Skipped",
    "Suite",
    "load_suite",
    "make_plan",
    "parse_selection",
    "suite_names",
]
