"""One optimiser step, and one forward pass in evaluation: the same code when training and when measuring."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional

from qbench.train.replay import InferenceReplay, Replay, is_allowed
from qbench.train.schedule import factor

if TYPE_CHECKING:
    from torch import Tensor

    from qbench.train.build import BuiltCell
    from qbench.train.replay.tape import Gradients


LARGE_BYTES = 2**20
"""A gradient of at least so many bytes is applied, and let go of, as soon as the backward pass has it."""

SEPARABLE = (torch.optim.SGD, torch.optim.Adam)  # the suite's are among their subclasses
"""Update rules that treat each parameter by itself, so that some may be updated before others."""


class TrainStep:
    """The two halves of an optimiser step of a built cell.

    They are apart so that the loss can be looked at before it reaches gradients and weights.

    replays: whether steps may come from a tape (:mod:`qbench.train.replay`), with the same results. Their losses are in
    no graph, and nothing can look into them. On the CPU alone.
    """

    def __init__(self, built: BuiltCell, *, replays: bool = False) -> None:
        self._built = built
        self._settings = built.cell.train
        self._plan = built.plan
        self._model = built.model
        self._optimizer = built.optimizer
        # float16 gradients underflow without a scale on the loss (Micikevicius et al. 2018, section 3.2).
        self._scaler = GradScaler(built.device.type) if built.recipe.autocast == "float16" else None
        # A scaled gradient is applied only if all of them are finite.
        is_separable = isinstance(built.optimizer, SEPARABLE) and self._scaler is None
        self._large = [p for p in built.converted.parameters() if is_separable and p.nbytes >= LARGE_BYTES]
        self._replay: Replay | None = None
        if replays and built.device.type == "cpu" and self._scaler is None and is_allowed():
            self._replay = Replay(built.model, built.converted.clock, self._loss)

    @property
    def is_replayed(self) -> bool:
        """Whether the newest step came from a tape."""
        return self._replay is not None and self._replay.gradients is not None

    @property
    def is_settled(self) -> bool:
        """Whether steps have been as they will be: neither recorded nor the first from a tape."""
        return self._replay is None or self._replay.is_settled

    def lr_factor(self, step: int) -> float:
        """The schedule's factor at optimiser step ``step``."""
        return factor(self._settings.schedule, step, self._plan.total_steps, self._plan.steps_per_epoch)

    def forward(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """Loss (a scalar) of optimiser step ``step`` on a batch that lies on the device."""
        self._optimizer.zero_grad(set_to_none=True)  # here, so that the last step's gradients take no memory any more
        self._built.converted.clock.step = step
        scale = self.lr_factor(step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * scale
        return self._loss(images, labels) if self._replay is None else self._replay.forward(images, labels)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with self._built.converted.precision():
            logits = self._model(images)
            return functional.cross_entropy(logits.float(), labels, label_smoothing=self._settings.label_smoothing)

    def update(self, loss: Tensor) -> None:
        """Backward pass and update of the weights.

        Large weights are updated within the backward pass, with the same result: their gradients would be as large as
        they are, all at once. So this leaves no gradients that could be looked at.
        """
        self._differentiate(loss, self._large)
        self.apply()

    def backward(self, loss: Tensor) -> None:
        """The backward pass alone; gradients are those of the loss times the scaler's scale, where there is one."""
        self._differentiate(loss, ())

    def _differentiate(self, loss: Tensor, large: Collection[Tensor]) -> None:
        """The backward pass. large: parameters at whose gradients all that there are are applied and let go of."""
        replay = self._replay
        if replay is not None and replay.gradients is not None:
            self._take(replay.gradients, set(map(id, large)))
        elif replay is not None and replay.is_recording:
            replay.backward(loss)  # and no more: an update would be on the tape
        else:
            with self._applied_early(large):
                (loss if self._scaler is None else self._scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]

    def _take(self, gradients: Gradients, large: Collection[int]) -> None:
        for parameter, gradient in gradients:
            assert parameter is not None
            parameter.grad = gradient
            del gradient
            if id(parameter) in large:
                self._apply_early(parameter)

    @contextmanager
    def _applied_early(self, large: Collection[Tensor]) -> Iterator[None]:
        """Within the context, apply what gradients there are whenever autograd has completed one of ``large``."""
        hooks = [parameter.register_post_accumulate_grad_hook(self._apply_early) for parameter in large]  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _apply_early(self, _: Tensor) -> None:
        self.apply()
        self._optimizer.zero_grad(set_to_none=True)

    def apply(self) -> None:
        """The update of the weights by their gradients."""
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()

    def unscale(self) -> None:
        """Divide the gradients by the scaler's scale, between ``backward`` and ``apply``."""
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)

    def rest(self) -> None:
        """Take no memory until the next step: something else comes in between."""
        if self._replay is not None:
            self._replay.rest()

    def forked(self) -> TrainStep:
        """Another one of the same cell, whose gradient scaler starts in this one's state and leaves it alone."""
        fork = TrainStep(self._built)
        if self._scaler is not None and fork._scaler is not None:
            fork._scaler.load_state_dict(self._scaler.state_dict())
        return fork


class InferencePass:
    """Forward passes of a built cell in evaluation mode, for as long as its parameters and buffers stay as they are.

    replays: as of :class:`TrainStep`.
    """

    def __init__(self, built: BuiltCell, *, replays: bool = False) -> None:
        self._built = built
        self._no_labels = torch.empty(0, dtype=torch.int64)
        self._replay: InferenceReplay | None = None
        if replays and built.device.type == "cpu" and is_allowed():
            self._replay = InferenceReplay(built.model, built.converted.clock, self._predict)

    @torch.no_grad()
    def run(self, images: Tensor) -> Tensor:
        """What the model says to ``images``, which lie on the device."""
        if self._replay is None:
            return self._predict(images, self._no_labels)
        return self._replay.forward(images, self._no_labels)

    def _predict(self, images: Tensor, _: Tensor) -> Tensor:
        with self._built.converted.precision():
            return self._built.converted.predict(images)

    @property
    def is_replayed(self) -> bool:
        """Whether the newest pass came from a tape."""
        return self._replay is not None and self._replay.is_replayed

    @property
    def is_settled(self) -> bool:
        """Whether passes have been as they will be."""
        return self._replay is None or self._replay.is_settled
