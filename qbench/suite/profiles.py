"""The ``profiles:`` of a suite file: named overlays, of which one may be chosen."""

from __future__ import annotations

from collections.abc import Callable

from qbench.errors import SuiteError, UnknownNameError
from qbench.registry import nearest
from qbench.suite.nodes import Node, merge

_FIXED = ("name", "kind", "profiles")


def chosen_profile(root: Node, name: str | None, shown: str, check: Callable[[Node], object]) -> Node | None:
    """The profile ``name`` of the file ``root``, called ``shown`` in messages; None where none is chosen.

    check: raises for a suite that cannot be. It is shown the file with each of its profiles, so that a mistake shows
    before it is needed. Raises :class:`SuiteError` for a profile that changes what it cannot, UnknownNameError for one
    that is not there.
    """
    profiles = root.get("profiles") or Node({}, shown)
    if not isinstance(profiles.value, dict):
        return None  # the check of the whole file says it better
    for other, overlay in profiles.value.items():
        _check_profile(other, overlay, root, check)
    if name is None:
        return None
    if name not in profiles.value:
        raise UnknownNameError(f"{shown}: unknown profile '{name}'{nearest(name, list(profiles.value))}")
    return profiles.value[name]


def _check_profile(name: str, overlay: Node, root: Node, check: Callable[[Node], object]) -> None:
    for key in _FIXED:
        found = overlay.get(key)
        if found is not None:
            raise SuiteError(f"{found.where}: profile '{name}' cannot change '{key}'")
    if isinstance(overlay.value, dict):
        check(merge(root, overlay))
