"""Training steps and forward passes from tapes: which are recorded, and when a tape may stand for one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from qbench.errors import InputError
from qbench.nn.remembered import count_step
from qbench.train.memory import nodes
from qbench.train.replay.native import NativeTape
from qbench.train.replay.recorder import Recorder, UnrepeatableError
from qbench.train.replay.scene import Scene, Traces
from qbench.train.replay.trial import Moment, Trial

if TYPE_CHECKING:
    from qbench.nn.clock import Clock
    from qbench.train.replay.tape import Gradients

VARIABLE = "QBENCH_REPLAY"
"""Environment variable: ``on``, the default, or ``off``, where every step is run as PyTorch runs it."""

MAX_FAILURES = 3
"""After so many recordings that gave no tape, or tapes that no longer held, a training goes on without."""

MAX_UNSETTLED = 2 * MAX_FAILURES + 1
"""Steps after which it is known whether they are replayed, but for those that note their codes."""


def is_allowed() -> bool:
    """Whether the environment lets steps be replayed. Raises InputError where it says neither yes nor no."""
    setting = os.environ.get(VARIABLE) or "on"
    if setting not in ("on", "off"):
        raise InputError(f"{VARIABLE}={setting}: choose on or off")
    return setting == "on"


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
        self._traces = Traces(clock, self._scene)
        self._first: Recorder | None = None
        self._recorder: Recorder | None = None
        self._trial: Trial | None = None
        self._tape: NativeTape | None = None
        self._failures = 0

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of the step that the clock is at."""
        self.gradients = self._recorder = None
        if self._has_to_run() or not self._may_go_on(images, labels):
            self.rest()
            return self._forward(images, labels)
        return self._record(images, labels) if self._tape is None else self._play(self._tape, images, labels)

    def _has_to_run(self) -> bool:
        """Whether more happens in this step than is on any tape."""
        return self._clock.is_noting or torch.is_anomaly_enabled()

    def _may_go_on(self, images: Tensor, labels: Tensor) -> bool:
        """Whether a step on this batch may come from the tape, or be recorded where there is none."""
        try:
            if self._failures < MAX_FAILURES:
                self._look(images, labels)
        except UnrepeatableError as error:
            self._fail(str(error), for_good=True)
        return self._failures < MAX_FAILURES

    def _look(self, images: Tensor, labels: Tensor) -> None:
        """Whether the tape holds, and where there is none, how all is before a recording.

        Raises :class:`UnrepeatableError` where there never can be one.
        """
        if not self._scene.is_as_noted(images, labels):
            if self._tape is not None or self._first is not None:
                self._fail("the model or the shape of the batch changes between steps")
            if self._failures == MAX_FAILURES:
                return
            self._scene.note(images, labels)
        if self._tape is None:
            self._traces.note()

    def _play(self, tape: NativeTape, images: Tensor, labels: Tensor) -> Tensor:
        count_step()  # the kernels move buffers, and no module's forward pass is there to say so
        self.gradients = tape.play(self._clock.key_step, images, labels)
        return next(self.gradients)[1]

    def _record(self, images: Tensor, labels: Tensor) -> Tensor:
        step = self._clock.key_step
        if self._first is not None:
            self._trial = Trial(step, images, labels, Moment([images, labels, *self._first.constants()]))
        self._recorder = Recorder(step, images, labels)
        with self._recorder:
            loss = self._forward(images, labels)
        self._recorder.yield_loss(loss)
        return loss

    def rest(self) -> None:
        """Take no memory until the next step; one that is under way is over."""
        self.gradients = None
        if self._tape is not None:
            self._tape.rest()

    @property
    def is_settled(self) -> bool:
        """Whether steps have been as they will be: replayed with all that the first replay learns, or none of them."""
        return self._failures == MAX_FAILURES or (self._tape is not None and self._tape.is_learned)

    @property
    def is_recording(self) -> bool:
        """Whether the forward pass of the newest loss was recorded, so that its backward pass has to be."""
        return self._recorder is not None

    def backward(self, loss: Tensor) -> None:
        """The backward pass of the newest loss, which belongs on a tape."""
        recorder = self._recorded()
        hooks = [p.register_post_accumulate_grad_hook(recorder.yield_gradient) for p in self._scene.trained]  # type: ignore[no-untyped-call]
        try:
            with recorder:
                # Of a tensor, PyTorch would hide from the recorder the functions that are called on the way.
                torch.autograd.backward(get_gradient_edge(loss))
        finally:
            for hook in hooks:
                hook.remove()
        self._end(recorder, loss)

    def _recorded(self) -> Recorder:
        recorder, self._recorder = self._recorder, None
        assert recorder is not None
        return recorder

    def _end(self, recorder: Recorder, loss: Tensor) -> None:
        """A step was recorded from its beginning to its end."""
        try:
            self._take(recorder, loss)
        except UnrepeatableError as error:
            self._fail(str(error))

    def _take(self, recorder: Recorder, loss: Tensor) -> None:
        self._scene.require_unchanged()
        self._traces.require_none()
        if recorder.refusal:
            raise UnrepeatableError(recorder.refusal)
        self._require_all_gradients(recorder, loss)
        if self._first is None or self._trial is None:
            self._first = recorder
            return
        tape, trial = NativeTape(self._first, recorder), self._trial
        trial.require_repeated(tape, loss)
        self._tape, self._first, self._trial, self.refusal = tape, None, None, ""

    def _require_all_gradients(self, recorder: Recorder, loss: Tensor) -> None:
        """Raises :class:`UnrepeatableError` where one is made that the backward pass does not hand out."""
        trained, handed_out = set(map(id, self._scene.trained)), set(map(id, recorder.parameters()))
        leaves = (node.variable for node in nodes(loss) if hasattr(node, "variable"))
        if not all(id(leaf) in trained for leaf in leaves):
            raise UnrepeatableError("a tensor gets a gradient that is no parameter of a module")
        if not all(p.grad is None or id(p) in handed_out for p in self._scene.trained):
            raise UnrepeatableError("a parameter gets a gradient before the backward pass")

    def _fail(self, why: str, *, for_good: bool = False) -> None:
        self.refusal = why
        self._failures = MAX_FAILURES if for_good else self._failures + 1
        self._first = self._tape = self._trial = None
        if self._failures == MAX_FAILURES:
            self._scene.forget()


class InferenceReplay(Replay):
    """Forward passes in evaluation mode, run as always, recorded, or replayed, while parameters and buffers stay as
    they are: what evaluation remembers of them is on the tape. The first pass, which makes it, is run.

    is_replayed: whether the newest one came from the tape. forward: from a batch to what the model makes of it,
    without a graph.
    """

    def __init__(self, model: nn.Module, clock: Clock, forward: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(model, clock, forward)
        self.is_replayed = False
        self._is_first = True

    def _has_to_run(self) -> bool:
        is_first, self._is_first = self._is_first, False
        return is_first  # codes are noted in training alone

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The model's outcome for ``images``."""
        self.is_replayed = False
        return super().forward(images, labels)

    def _play(self, tape: NativeTape, images: Tensor, labels: Tensor) -> Tensor:
        self.is_replayed = True
        return next(tape.play(self._clock.key_step, images, labels))[1]

    def _record(self, images: Tensor, labels: Tensor) -> Tensor:
        outcome = super()._record(images, labels)
        self._end(self._recorded(), outcome)
        return outcome

    def _require_all_gradients(self, recorder: Recorder, loss: Tensor) -> None:
        """None is made."""
