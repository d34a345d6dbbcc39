"""What objects hold, however deep within, as digests that can be compared.

A step may count in a list, in a variable of the function around it or of its file, or draw from a generator of its own.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from qbench.train.replay.recorder import UnrepeatableError

KNOWN = {"torch", "numpy", "qbench", *sys.stdlib_module_names}
"""Packages whose functions and classes keep nothing that a step depends on and that is not seen in other ways."""

SIMPLE = (int, float, complex, str, bytes, type(None), Tensor, nn.Module)
"""Types of objects that are looked at in other ways, or hold nothing but what they are."""


def contents(x: object) -> bytes:
    """A digest of all that ``x`` holds: equal to the one before where nothing of it has changed, and never equal where
    nobody can tell, as of an iterator that does not say how far it is. Tensors, modules and classes count by identity.

    Raises :class:`UnrepeatableError` where a function is compiled.
    """
    if isinstance(x, SIMPLE):
        return b""
    digest = _Digest()
    try:
        _Pickler(digest, protocol=pickle.HIGHEST_PROTOCOL).dump(x)
    except UnrepeatableError:
        raise
    except Exception:  # whatever it is that objects raise
        return _unlike_any()
    return digest.value


def class_variables(model: nn.Module) -> dict[str, object]:
    """By name, what the classes of a model's modules hold: functions, and perhaps a count of all objects."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if not is_known(kind)}
    return {kind.__qualname__: dict(vars(kind)) for kind in kinds}


def require_uncompiled(model: nn.Module) -> None:
    """Raises :class:`UnrepeatableError` where a module is compiled: it runs operators of its own, and others where
    somebody records it."""
    dynamo = sys.modules.get("torch._dynamo")  # which takes seconds to load
    kinds = (torch.jit.ScriptModule, *([] if dynamo is None else [dynamo.OptimizedModule]))
    if any(isinstance(m, kinds) or m._compiled_call_impl is not None for m in model.modules()):
        raise UnrepeatableError("a module is compiled")


def _unlike_any() -> bytes:
    return os.urandom(16)


class _Digest:
    """A file of which no more than a digest is kept."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.write = self._hash.update

    @property
    def value(self) -> bytes:
        return self._hash.digest()


class _Pickler(pickle.Pickler):
    """Writes what objects hold. Nothing of it is ever read again."""

    def persistent_id(self, x: Any) -> int | None:
        """The identity of what counts by it."""
        if _is_compiled(x):
            raise UnrepeatableError("a function is compiled")
        is_function = isinstance(x, FunctionType) and not is_known(x)
        is_opaque = isinstance(x, (Tensor, nn.Module, torch.Generator, ModuleType, type, FunctionType, CodeType))
        return id(x) if is_opaque and not is_function else None

    def reducer_override(self, x: Any) -> Any:
        """An object as pickle takes it: how it would be made, its arguments, its state."""
        if isinstance(x, FunctionType):
            return object, (), _variables(x)
        try:
            return x.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except Exception:  # a lock, a window, a property
            return object, (), _unlike_any() if isinstance(x, Iterator) else id(x)


def _is_compiled(x: object) -> bool:
    is_wrapped = isinstance(x, FunctionType) and hasattr(x, "_torchdynamo_orig_callable")
    return isinstance(x, torch.jit.ScriptFunction) or (is_wrapped and not hasattr(x, "_torchdynamo_disable"))


def is_known(x: Any) -> bool:
    """Whether a function or class is of a package that hides nothing."""
    return (x.__module__ or "").partition(".")[0] in KNOWN


def _variables(function: FunctionType) -> list[object]:
    """What a function reads or changes: its code, variables of functions around it, defaults, variables of its file."""
    around = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    of_file = {name: function.__globals__.get(name) for name in _names(function.__code__)}
    return [function.__code__, around, function.__defaults__, function.__kwdefaults__, vars(function), of_file]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _names(code: CodeType) -> Iterator[str]:
    """The names of the global variables, and of attributes, in a function and those within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
