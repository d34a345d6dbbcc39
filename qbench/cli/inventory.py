"""What ``qbench list`` shows, kind by kind; nothing is loaded that the listing does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qbench.cli.datapaths import data_paths
from qbench.errors import QbenchError, UnknownNameError
from qbench.registry import nearest
from qbench.report.entries import natural
from qbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qbench.factory import Factory
    from qbench.plugin import Method
    from qbench.probes import ProbeFactory

Item = tuple[str, str, "Callable[[], Iterator[str]]"]
"""A name, its description, and more lines for ``-v``."""


def inventory_lines(what: str, *, verbose: bool) -> Iterator[str]:
    """The names of one kind with their descriptions. Raises UnknownNameError for an unknown kind."""
    if what not in _KINDS:
        raise UnknownNameError(f"nothing called '{what}' to list{nearest(what, list(_KINDS))}")
    items = list(_KINDS[what]())
    if what != "plots":
        items.sort(key=lambda item: natural(item[0]))
    width = max((len(name) for name, _, _ in items), default=0)
    for name, description, details in items:
        yield f"{name:<{width}}  {description}".rstrip()
        if verbose:
            yield from (f"    {line}" for line in details())
            yield ""


def _methods() -> Iterator[Item]:
    from qbench.catalog import methods

    for entry in methods():
        try:
            method = entry.load()
        except QbenchError as error:
            # One broken plugin must not hide the others.
            yield entry.name, clean(f"cannot be loaded: {error}"), lambda: iter(())
            continue
        yield entry.name, method.summary, lambda method=method: _method_details(method)  # type: ignore[misc]


def _method_details(method: Method) -> Iterator[str]:
    if method.paper:
        yield f"paper: {method.paper}"
    yield f"defined in {method.origin}"
    recipe = method.build({})
    yield f"arithmetic: {', '.join(recipe.arithmetics)}"
    rows = data_paths(recipe)
    width = max(len(row.slot) for row in rows)
    yield from (f"{row.path} {row.slot:<{width}}  {row.format}" for row in rows)
    yield from _options(method)
    for name, values in method.presets.items():
        yield f"preset {name}: {', '.join(f'{key}={value}' for key, value in values.items())}"
    for deviation in method.deviations:
        yield f"deviates: {deviation}"


def _options(owner: Method | Factory[Any]) -> Iterator[str]:
    """Types and defaults, then what they mean in the owner's words."""
    for option in owner.options:
        default = list(option.default) if isinstance(option.default, tuple) else option.default  # as in YAML
        yield f"option {option.name}: {option.type} = {default!r}"
    if owner.options:
        yield from (clean(line) for line in owner.explanation.splitlines())


def _factories(registry: Iterable[Any]) -> Iterator[Item]:
    for entry in registry:
        factory = entry.load()
        yield entry.name, factory.description, lambda factory=factory: _options(factory)  # type: ignore[misc]


def _models() -> Iterator[Item]:
    from qbench.models import registry

    return _factories(registry)


def _datasets() -> Iterator[Item]:
    from qbench.data import registry

    return _factories(registry)


def _experiments() -> Iterator[Item]:
    from qbench.theory import registry

    return _factories(registry)


def _suites() -> Iterator[Item]:
    from qbench.suite.source import suite_names

    for name in suite_names():
        yield name, _suite_description(name), lambda name=name: _suite_details(name)  # type: ignore[misc]


def _suite_description(name: str) -> str:
    """Read from the file alone: checking a suite loads every model that it names."""
    from qbench.suite.nodes import read_yaml
    from qbench.suite.source import find_source

    source = find_source(name)
    description = read_yaml(source.text, source.shown).get("description")
    return str(description.value) if description else ""


def _suite_details(name: str) -> Iterator[str]:
    from qbench.suite import load_suite
    from qbench.suite.theory import load_theory_suite, suite_kind

    if suite_kind(name) == "theory":
        yield f"experiments: {', '.join(experiment.name for experiment in load_theory_suite(name).experiments)}"
        return
    suite = load_suite(name)
    yield f"models: {', '.join(choice.name for choice in suite.models)}"
    yield f"data sets: {', '.join(choice.name for choice in suite.datasets)}"
    yield f"methods: {', '.join(entry.label for entry in suite.entries)}"
    yield f"seeds: {', '.join(map(str, suite.seeds))}; epochs: {suite.train.epochs}; protocol: {suite.protocol}"


def _probes() -> Iterator[Item]:
    from qbench.probes import registry

    for entry in registry:
        probe = entry.load()
        yield entry.name, probe.description, lambda probe=probe: _probe_details(probe)  # type: ignore[misc]


def _probe_details(probe: ProbeFactory) -> Iterator[str]:
    for quantity in probe.build({}).quantities:
        yield f"{quantity.name}: {quantity.title}" + (f" [{quantity.unit}]" if quantity.unit else "")
    yield from _options(probe)


def _plots() -> Iterator[Item]:
    from qbench.report.plots import PLOTS

    for plot in PLOTS.values():
        yield plot.name, plot.description, lambda: iter(())


_KINDS: dict[str, Callable[[], Iterator[Item]]] = {
    "methods": _methods,
    "models": _models,
    "datasets": _datasets,
    "suites": _suites,
    "experiments": _experiments,
    "probes": _probes,
    "plots": _plots,
}
