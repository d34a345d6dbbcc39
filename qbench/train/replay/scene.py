"""What decides which operators a step runs, beside its operands: whether a tape may stand for it."""

from __future__ import annotations

import random
from operator import is_
from typing import Any

import numpy as np
from torch import Tensor, nn

from qbench.nn.clock import Clock
from qbench.nn.site import Site
from qbench.train.replay.contents import SIMPLE, class_variables, contents, is_known, require_uncompiled
from qbench.train.replay.recorder import UnrepeatableError, layout

CHILDREN = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
EVERY_MODULE = frozenset(vars(nn.Module())) - {"training"}
"""Attributes of modules that are looked at in other ways, or say nothing."""


class Scene:
    """What decides which operators a step runs, beside the clock: how the batch lies, and what the modules hold."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.forget()

    def forget(self) -> None:
        """Hold nothing that a module may have let go of."""
        self._hooks: list[dict[int, Any]] = []
        self._holders: list[dict[str, Any]] = []
        self._is_watched = False
        self._places: list[tuple[str, dict[str, Any], str]] = []
        self._objects: list[Any] = []
        self._of_strangers: list[Any] = []
        self._digests: list[bytes] = []
        self._tensors: list[Tensor] = []
        self._numbers: list[int] = []
        self._layout: tuple[object, ...] = ()
        self.trained: list[nn.Parameter] = []

    def note(self, images: Tensor, labels: Tensor) -> None:
        """Remember how it is. trained: the parameters that get a gradient.

        Raises :class:`UnrepeatableError` where a module is compiled.
        """
        require_uncompiled(self._model)
        modules = dict(self._model.named_modules())  # which may be others than the last time
        self._hooks = [vars(module)[hooks] for module in modules.values() for hooks in HOOKS]
        self._hooks += [getattr(nn.modules.module, f"_global{hooks}") for hooks in HOOKS]
        named = [(name, module.__dict__) for name, module in modules.items()]
        named += [(name, vars(module)[part]) for name, module in modules.items() for part in CHILDREN]
        self._holders = [held for _, held in named]
        self._is_watched = any(isinstance(m, Site) and m.watcher is not None for m in modules.values())
        self._places = [
            (f"{name}.{key}".lstrip("."), held, key) for name, held in named for key in held if key not in EVERY_MODULE
        ]
        self._objects = self._held()
        # Modules of packages that are known change nothing within what they hold.
        strangers = [m.__dict__ for m in modules.values() if not is_known(type(m))]
        held = (held[key] for held in strangers for key in held if key not in EVERY_MODULE)
        self._of_strangers = [x for x in held if not isinstance(x, SIMPLE)]
        self._digests = list(map(contents, self._of_strangers))
        self._tensors = [x for x in self._objects if isinstance(x, Tensor)]
        self._numbers, self._layout = self._placed(), _layout(images, labels)
        parameters = (x for x in self._tensors if isinstance(x, nn.Parameter) and x.requires_grad)
        self.trained = list(dict.fromkeys(parameters))

    def is_as_noted(self, images: Tensor, labels: Tensor) -> bool:
        """Whether it still is so, and nobody looks on."""
        is_same = self._layout == _layout(images, labels) and not self._is_looked_at() and self._is_same()
        return is_same and list(map(contents, self._of_strangers)) == self._digests

    def require_unchanged(self) -> None:
        """Raises :class:`UnrepeatableError` where a step did what is not on its tape, or somebody looks on."""
        if self._is_looked_at():
            raise UnrepeatableError("modules or parameters have hooks, or a site is watched")
        if not self._is_same():
            raise UnrepeatableError(f"a step changes {self._changed()}")

    def _is_looked_at(self) -> bool:
        parameters = (getattr(p, hooks) for p in self.trained for hooks in PARAMETER_HOOKS)
        return self._is_watched or any(self._hooks) or any(parameters)

    def _is_same(self) -> bool:
        return all(map(is_, self._held(), self._objects)) and self._placed() == self._numbers

    def _held(self) -> list[Any]:
        """The very objects that the modules hold: a number set anew is another one, which errs on the safe side."""
        return [held.get(key, self) for _, held, key in self._places]

    def _placed(self) -> list[int]:
        """Where parameters and buffers lie, which of them are trained, and how much each module holds."""
        tensors = self._tensors
        numbers = [*map(Tensor.data_ptr, tensors), *(x.requires_grad for x in tensors)]
        return [*numbers, *map(len, self._holders)]

    def _changed(self) -> str:
        """The name of an attribute that is not what it was."""
        triples = zip(self._places, self._held(), self._objects, strict=True)
        return next((name for (name, _, _), now, before in triples if now is not before), "what a module holds")

    def contents(self) -> dict[str, bytes]:
        """Digests of what is within the objects that modules and their classes hold, by name."""
        held = {name: x for (name, _, _), x in zip(self._places, self._objects, strict=True)}
        return {name: contents(x) for name, x in (held | class_variables(self._model)).items()}


class Traces:
    """What a step leaves beside tensors when Python looks for more than is in its operands: at the clock, as schedules
    do, at a generator of random numbers, or within the objects that modules hold."""

    def __init__(self, clock: Clock, scene: Scene) -> None:
        self._clock = clock
        self._scene = scene
        self._readings = 0
        self._drawn: tuple[object, ...] = ()
        self._contents: dict[str, bytes] = {}

    def note(self) -> None:
        """Remember how it is. Raises :class:`UnrepeatableError` where a function is compiled."""
        self._readings, self._drawn, self._contents = self._clock.readings, _generators(), self._scene.contents()

    def require_none(self) -> None:
        """Raises :class:`UnrepeatableError` where there are new ones."""
        if self._clock.readings != self._readings:
            raise UnrepeatableError("what a step computes follows the clock")
        if _generators() != self._drawn:
            raise UnrepeatableError("a step draws random numbers in Python")
        now = self._scene.contents()
        changed = next((name for name in now if now[name] != self._contents.get(name)), None)
        if changed is not None:
            raise UnrepeatableError(f"a step changes what {changed} holds")


def _generators() -> tuple[object, ...]:
    name, keys, position, *gauss = np.random.get_state(legacy=True)
    return random.getstate(), name, keys.tobytes(), position, *gauss  # type: ignore[union-attr]


def _layout(*batch: Tensor) -> tuple[object, ...]:
    return tuple((*layout(x)[1:], x.requires_grad) for x in batch)
