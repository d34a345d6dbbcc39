"""The ``probes:`` list of a suite: ``cosine``, ``{weight_change: {k: 5}}``, or as on the command line,
``weight_change[k=5]``."""

from __future__ import annotations

from functools import partial

from qbench.cell import ProbeChoice
from qbench.errors import SuiteError
from qbench.suite.choices import locate
from qbench.suite.nodes import Node
from qbench.suite.selection import parse_selection

_FORM = "write NAME or {NAME: {option: value}}"


def read_probes(node: Node | None) -> tuple[ProbeChoice, ...]:
    """The probes that the list ``node`` names, each with all its options.

    Raises :class:`SuiteError` for a wrong form or a repetition, UnknownNameError and InputError for bad options.
    """
    if node is None:
        return ()
    assert isinstance(node.value, list)
    first_at: dict[str, str] = {}
    choices = []
    for position, item in enumerate(node.value):
        choice = _read_probe(item, position)
        if choice.name in first_at:
            raise SuiteError(f"{item.where}: probe '{choice.name}' is already at {first_at[choice.name]}; keep one")
        first_at[choice.name] = item.where
        choices.append(choice)
    return tuple(choices)


def _read_probe(item: Node, position: int) -> ProbeChoice:
    from qbench.probes import registry

    name, options = _name_and_options(item, position)
    probe = locate(item.where, partial(registry.get, name))
    for option, value in options.items():
        locate(value.where, partial(probe.resolve, {option: value.plain()}))
    chosen = {option: value.plain() for option, value in options.items()}
    return ProbeChoice(name=name, options=locate(item.where, partial(probe.resolve, chosen)))


def _name_and_options(item: Node, position: int) -> tuple[str, dict[str, Node]]:
    if isinstance(item.value, str):
        return _selected(item)
    if not isinstance(item.value, dict) or len(item.value) != 1:
        raise SuiteError(f"{item.where}: 'probes[{position}]' is no probe; {_FORM}")
    ((name, options),) = item.value.items()
    if options.value is None:
        return name, {}
    if not isinstance(options.value, dict):
        raise SuiteError(f"{options.where}: the options of 'probes[{position}]' must be a mapping; {_FORM}")
    return name, options.value


def _selected(item: Node) -> tuple[str, dict[str, Node]]:
    assert isinstance(item.value, str)
    selection = parse_selection(item.value, item.where, "probe")
    for option, values in selection.options.items():
        if len(values) > 1:
            raise SuiteError(f"{item.where}: option '{option}' of probe '{selection.reference}' takes one value")
    return selection.reference, {option: values[0] for option, values in selection.options.items()}
