"""Where methods come from: the built-in files, installed packages, and a file named by the user.

All three give the same :class:`~qbench.plugin.Method`, and all pass the same contract suite.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from qbench.errors import CollisionError, PluginError
from qbench.plugin import Method, located
from qbench.registry import Registry, nearest

ENTRY_POINT_GROUP = "qbench.methods"


@cache
def methods() -> Registry[Method]:
    """Every method that has a name: the built-in ones and those of installed packages."""
    registry: Registry[Method] = Registry("method")
    package = importlib.import_module("qbench.methods")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"qbench.methods.{info.name}")
        for found in _methods_in(module):
            registry.add(found.name, f"qbench.methods.{info.name}", lambda found=found: found)  # type: ignore[misc]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        distribution = point.dist.name if point.dist else "an unknown package"
        registry.add(point.name, f"package {distribution} ({point.value})", lambda point=point: _from_entry(point))  # type: ignore[misc]
    return registry


def find_method(reference: str) -> Method:
    """The method called ``reference``: a registered name, or ``path/to/file.py:name`` (``:name`` is optional
    where the file defines one method). Raises UnknownNameError or PluginError."""
    path, _, name = reference.rpartition(":")
    if reference.endswith(".py"):
        path, name = reference, ""
    if path.endswith(".py"):
        return _from_file(Path(path), name)
    return methods().get(reference)


def _from_file(path: Path, name: str) -> Method:
    found: dict[str, Method] = {}
    for method in _methods_in(_import_file(path.resolve(), str(path))):
        first = found.setdefault(method.name, method)
        if first is not method:
            raise CollisionError(
                f"two methods are called '{method.name}': one from {first.origin}, one from {method.origin}; rename one"
            )
    if not found:
        raise PluginError(f"{path} defines no method; decorate a function that returns a Recipe with @qbench.method")
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        wanted = f"no method '{name}'" if name else "several methods; name one as file.py:name"
        raise PluginError(f"{path} has {wanted}{nearest(name, list(found))}")
    return found[name]


@cache
def _import_file(path: Path, shown: str) -> ModuleType:
    if path.is_dir():
        raise PluginError(f"plugin file {shown} is a directory; name the .py file in it")
    if not path.is_file():
        raise PluginError(f"plugin file {shown} does not exist")
    module_name = f"qbench_plugin_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # of any kind, as a file of the user's may raise what it likes
        del sys.modules[module_name]
        if isinstance(error, PluginError | KeyboardInterrupt):
            raise
        raise PluginError(f"plugin file {shown} does not import: {located(error, path)}") from error
    return module


def _from_entry(point: Any) -> Method:
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {error}"
        raise PluginError(f"entry point '{point.name}' = {point.value} does not load: {cause}") from error
    if not isinstance(found, Method):
        raise PluginError(f"entry point '{point.name}' = {point.value} is {type(found).__name__}, not a @qbench.method")
    if found.name != point.name:
        raise PluginError(f"entry point '{point.name}' = {point.value} is called '{found.name}'; give both one name")
    return found


def _methods_in(module: ModuleType) -> list[Method]:
    return [value for value in vars(module).values() if isinstance(value, Method)]
