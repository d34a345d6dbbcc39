"""``qbench run --dry-run``: what would be run, what differs from the defaults, what is skipped and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.report.text import clean, counted, titled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qbench.suite import Plan, PlannedMethod
    from qbench.train.settings import Settings


def print_plan(plan: Plan, out: Path) -> None:
    """The plan as plain lines."""
    for line in plan_lines(plan, out):
        print(clean(line))


def plan_lines(plan: Plan, out: Path) -> Iterator[str]:
    """One line per fact: the suite, its cells, the non-default settings, each method, what is skipped, notes."""
    suite = plan.suite
    profile = f" (profile {suite.profile})" if suite.profile else ""
    yield titled(f"suite {suite.name}{profile}", suite.description)
    yield f"into {out}, on {plan.device}, {suite.arithmetic} arithmetic, protocol: {suite.protocol}"
    counts = (
        (len(plan.methods) - len(plan.skipped), "method"),
        (len(suite.models), "model"),
        (len(suite.datasets), "data set"),
        (len(suite.seeds), "seed"),
    )
    product = " x ".join(counted(number, word) for number, word in counts)
    done = f", {plan.num_done} of them done" if any(planned.done is not None for planned in plan.cells) else ""
    yield f"{counted(len(plan.cells), 'cell')}: {product}{done}"
    yield f"models: {', '.join(_choice(c.name, c.options) for c in suite.models)}"
    yield f"data sets: {', '.join(_choice(c.name, c.options) for c in suite.datasets)}"
    yield f"seeds: {', '.join(map(str, suite.seeds))}"
    yield f"train: {_changed(suite.train)}"
    yield f"measure: {_changed(suite.measure)}" if suite.measure.enabled else "measure: nothing"
    if suite.probes:
        yield f"probes: {', '.join(_choice(probe.name, probe.options) for probe in suite.probes)}"
    yield "methods:"
    for method in plan.methods:
        yield from _method(method)
    for note in plan.notes:
        yield f"note: {note}"


def _method(method: PlannedMethod) -> Iterator[str]:
    from qbench.report.fairness import unseen_options

    if method.skipped is not None:
        yield f"  {method.label}: skipped, it {method.skipped}"
        return
    yield f"  {method.label}: {method.summary}"
    yield from (f"    {line}" for line in unseen_options(method.method, method.changed, method.label))
    for name, (usual, own) in method.train_changes.items():
        yield f"    {name}: {own} (the others: {usual})"
    if method.because:
        yield f"    because: {method.because}"


def _changed(settings: Settings) -> str:
    """The settings that are not the defaults."""
    from qbench.train.settings import differences

    changed = differences(settings, type(settings)())
    return ", ".join(f"{name} {value}" for name, (value, _) in changed.items()) or "all as by default"


def _choice(name: str, options: dict[str, object]) -> str:
    from qbench.report.entries import named

    return named(name, options)
