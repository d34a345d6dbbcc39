"""Training steps from tapes: which steps are recorded, and when a tape may stand for a step."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from qbench.train.tape import Recorder, Tape, UnrepeatableError

if TYPE_CHECKING:
    from qbench.nn.site import Clock
    from qbench.train.tape import Gradients

VARIABLE = "QBENCH_REPLAY"
"""Environment variable; ``off``: every step is run as PyTorch runs it."""

MAX_FAILURES = 3
"""After so many recordings that gave no tape, or tapes that no longer held, a training goes on without."""

CHILDREN = ("_parameters", "_buffers", "_modules")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def is_allowed() -> bool:
    """Whether the environment lets steps be replayed."""
    return os.environ.get(VARIABLE) != "off"


class Replay:
    """The steps of one training: run as always, recorded, or replayed.

    Two steps are recorded, because what is the same in both is all that a tape can hold. From then on the tape stands
    for every step but those in which more happens than is on it: where sites note their codes, and where the modules
    or the batch are not what they were. refusal: why there is no tape; empty where there is one or may yet be.
    gradients: (parameter, its gradient), each as soon as it is complete, where the newest loss came from the tape; else
    None.

    forward: from a batch to its loss, in the graph.
    """

    def __init__(self, model: nn.Module, clock: Clock, forward: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.refusal = ""
        self.gradients: Gradients | None = None
        self._forward = forward
        self._clock = clock
        self._scene = Scene(model)
        self._traces = Traces(clock)
        self._first: Recorder | None = None
        self._recorder: Recorder | None = None
        self._tape: Tape | None = None
        self._failures = 0

    def forward(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of the step numbered ``step``."""
        self.gradients = self._recorder = None
        if self._failures == MAX_FAILURES or self._clock.is_noting:
            return self._forward(images, labels)
        if not self._scene.is_as_noted(images, labels):
            if self._tape is not None or self._first is not None:
                self._fail("the model or the shape of the batch changes between steps")
            self._scene.note(images, labels)
        if self._tape is not None:
            self.gradients = self._tape.play(step, images, labels)
            return next(self.gradients)[1]
        self._traces.note()
        self._recorder = Recorder(step, images, labels)
        with self._recorder:
            loss = self._forward(images, labels)
        self._recorder.yield_loss(loss)
        return loss

    @property
    def is_recording(self) -> bool:
        """Whether the forward pass of the newest loss was recorded, so that its backward pass has to be."""
        return self._recorder is not None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """The context of a backward pass that belongs on a tape."""
        recorder, self._recorder = self._recorder, None
        assert recorder is not None
        hooks = [p.register_post_accumulate_grad_hook(recorder.yield_gradient) for p in self._scene.trained()]  # type: ignore[no-untyped-call]
        try:
            with recorder:
                yield
        finally:
            for hook in hooks:
                hook.remove()
        try:
            self._take(recorder)
        except UnrepeatableError as error:
            self._fail(str(error))

    def _take(self, recorder: Recorder) -> None:
        """A step was recorded from its beginning to its end."""
        self._traces.require_none()
        self._scene.require_unchanged()
        if self._first is None:
            self._first = recorder
        else:
            self._tape, self._first, self.refusal = Tape(self._first, recorder), None, ""

    def _fail(self, why: str) -> None:
        self.refusal = why
        self._failures += 1
        self._first = self._tape = None


class Scene:
    """What decides which operators a step runs, beside the clock: the layout of the batch, and what the modules hold."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        modules = dict(model.named_modules())
        own = [(name, vars(module)) for name, module in modules.items()]
        self._dicts = own + [(name, vars(module)[part]) for name, module in modules.items() for part in CHILDREN]
        self._hooks = [vars(module)[hooks] for module in modules.values() for hooks in HOOKS]
        self._held: list[Any] = []
        self._layout: tuple[object, ...] = ()

    def note(self, images: Tensor, labels: Tensor) -> None:
        """Remember how it is."""
        self._held, self._layout = self._now(), _layout(images, labels)

    def is_as_noted(self, images: Tensor, labels: Tensor) -> bool:
        """Whether it still is so."""
        return self._layout == _layout(images, labels) and not any(self._hooks) and self._is_held()

    def trained(self) -> list[nn.Parameter]:
        """The parameters that get a gradient."""
        return [p for p in self._model.parameters() if p.requires_grad]

    def require_unchanged(self) -> None:
        """Raises :class:`UnrepeatableError` where a step did what is not on its tape, or somebody looks on."""
        if any(self._hooks) or any(getattr(p, hooks) for p in self.trained() for hooks in PARAMETER_HOOKS):
            raise UnrepeatableError("modules or parameters have hooks")
        if not self._is_held():
            raise UnrepeatableError(f"a step changes {self._changed()}")

    def _is_held(self) -> bool:
        now = self._now()
        return len(now) == len(self._held) and all(map(is_, now, self._held))

    def _now(self) -> list[Any]:
        """The very objects that the modules hold: a number set anew is another one, which is to err on the safe side."""
        held = list(chain.from_iterable(attributes.values() for _, attributes in self._dicts))
        held += [p.requires_grad for p in self._model.parameters()]
        return held

    def _changed(self) -> str:
        """The name of an attribute that is not what it was."""
        names = [f"{name}.{key}".lstrip(".") for name, attributes in self._dicts for key in attributes]
        changed = (name for name, a, b in zip(names, self._now(), self._held, strict=False) if a is not b)
        return next(changed, "the modules")


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
    name, keys, position, *gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - others' code may draw from it
    return random.getstate(), name, keys.tobytes(), position, *gauss  # type: ignore[union-attr]


def _layout(*batch: Tensor) -> tuple[object, ...]:
    return tuple((x.shape, x.stride(), x.dtype, x.device) for x in batch)
