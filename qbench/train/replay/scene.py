"""What decides which operators a step runs, beside its operands: whether a tape may stand for it."""

from __future__ import annotations

import random
import sys
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from qbench.train.replay.recorder import UnrepeatableError, layout

if TYPE_CHECKING:
    from qbench.nn.site import Clock

CHILDREN = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
"""Attributes of modules that are looked at in other ways, or say nothing."""


class Scene:
    """What decides which operators a step runs, beside the clock: how the batch lies, and what the modules hold."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._hooks: list[dict[int, Any]] = []
        self._named: list[tuple[str, dict[str, Any]]] = []
        self._places: list[tuple[dict[str, Any], str]] = []
        self._objects: list[Any] = []
        self._tensors: list[Tensor] = []
        self._numbers: list[int] = []
        self._layout: tuple[object, ...] = ()
        self.trained: list[nn.Parameter] = []

    def note(self, images: Tensor, labels: Tensor) -> None:
        """Remember how it is. trained: the parameters that get a gradient."""
        modules = dict(self._model.named_modules())  # which may be others than the last time
        self._hooks = [vars(module)[hooks] for module in modules.values() for hooks in HOOKS]
        self._hooks += [getattr(nn.modules.module, f"_global{hooks}") for hooks in HOOKS]
        self._named = [(name, module.__dict__) for name, module in modules.items()]
        self._named += [(name, vars(module)[part]) for name, module in modules.items() for part in CHILDREN]
        self._places = [(held, key) for _, held in self._named for key in held if key not in EVERY_MODULE]
        self._objects = self._held()
        self._tensors = [x for x in self._objects if isinstance(x, Tensor)]
        self._numbers, self._layout = self._placed(), _layout(images, labels)
        parameters = (x for x in self._tensors if isinstance(x, nn.Parameter) and x.requires_grad)
        self.trained = list(dict.fromkeys(parameters))

    def is_as_noted(self, images: Tensor, labels: Tensor) -> bool:
        """Whether it still is so, and nobody looks on."""
        return self._layout == _layout(images, labels) and not self._has_hooks() and self._is_same()

    def require_unchanged(self) -> None:
        """Raises :class:`UnrepeatableError` where a step did what is not on its tape, or somebody looks on."""
        if self._has_hooks():
            raise UnrepeatableError("modules or parameters have hooks")
        if not self._is_same():
            raise UnrepeatableError(f"a step changes {self._changed()}")

    def _has_hooks(self) -> bool:
        return any(self._hooks) or any(getattr(p, hooks) for p in self.trained for hooks in PARAMETER_HOOKS)

    def _is_same(self) -> bool:
        return all(map(is_, self._held(), self._objects)) and self._placed() == self._numbers

    def _held(self) -> list[Any]:
        """The very objects that the modules hold: a number set anew is another one, which errs on the safe side."""
        return [held.get(key, self) for held, key in self._places]

    def _placed(self) -> list[int]:
        """Where parameters and buffers lie, which of them are trained, and how much each module holds."""
        tensors = self._tensors
        numbers = [*map(Tensor.data_ptr, tensors), *(x.requires_grad for x in tensors)]
        return [*numbers, *(len(held) for _, held in self._named)]

    def _changed(self) -> str:
        """The name of an attribute that is not what it was."""
        pairs = zip(self._places, self._held(), self._objects, strict=True)
        changed = next((place for place, now, before in pairs if now is not before), None)
        if changed is None:
            return "what a module holds"
        module = next(name for name, held in self._named if held is changed[0])
        return f"{module}.{changed[1]}".lstrip(".")


class Traces:
    """What a step leaves beside tensors when Python looks for more than is in its operands: at the clock, as schedules
    do, or at a generator of random numbers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._readings = 0
        self._drawn: tuple[object, ...] = ()

    def note(self) -> None:
        """Remember how many there are."""
        self._readings, self._drawn = self._clock.readings, _generators()

    def require_none(self) -> None:
        """Raises :class:`UnrepeatableError` where there are new ones."""
        if self._clock.readings != self._readings:
            raise UnrepeatableError("what a step computes follows the clock")
        if _generators() != self._drawn:
            raise UnrepeatableError("a step draws random numbers in Python")


def _generators() -> tuple[object, ...]:
    name, keys, position, *gauss = np.random.get_state(legacy=True)
    return random.getstate(), name, keys.tobytes(), position, *gauss  # type: ignore[union-attr]


def _layout(*batch: Tensor) -> tuple[object, ...]:
    return tuple((*layout(x)[1:], x.requires_grad) for x in batch)


def is_compiled(model: nn.Module) -> bool:
    """Whether a module is compiled: it runs operators of its own, and others where somebody records it."""
    dynamo = sys.modules.get("torch._dynamo")  # which takes seconds to load
    kinds = (torch.jit.ScriptModule, *([] if dynamo is None else [dynamo.OptimizedModule]))
    return any(isinstance(m, kinds) or m._compiled_call_impl is not None for m in model.modules())
