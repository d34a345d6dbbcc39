"""What follows from parameters and buffers alone: in evaluation it is computed once, not for every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import ref

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

T = TypeVar("T")

_num_steps = 0
"""Of all optimisers in this process, forward passes from tapes, and changes of a layer's mode."""


def count_step(*_: object) -> None:
    """Parameters or buffers change, and perhaps nothing else counts it. PyTorch calls this behind optimisers' steps."""
    global _num_steps  # noqa: PLW0603 - one count for all that is remembered
    _num_steps += 1


register_optimizer_step_post_hook(count_step)


class Remembered(Generic[T]):
    """One value made from tensors, until one of these is another or has changed, or a step was counted.

    PyTorch does not count every change: neither ``weight.data.add_()``, so a forward pass in training forgets, and
    ``model.eval()`` too, nor what a fused optimiser does. A pass that is captured in a CUDA graph ends all remembering:
    nothing notices when it is replayed. A copy, or what was saved and loaded, begins anew.
    """

    def __init__(self) -> None:
        self._sources: list[ref[Tensor]] = []
        self._stamp: list[int] = []
        self._value: T | None = None
        self._is_replayed = False

    def __reduce__(self) -> tuple[type[Remembered[T]], tuple[()]]:
        return type(self), ()

    def get(self, sources: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """The value, computed if it is not known. sources: all that ``compute`` reads and that may change."""
        if self._is_replayed or any(source.is_inference() for source in sources):  # such tensors count no changes
            return compute()
        stamp = [_num_steps, *(number for source in sources for number in (source.data_ptr(), source._version))]
        value = self._value
        if value is None or stamp != self._stamp or not self._are_sources(sources):
            with torch.inference_mode(False), torch.no_grad():  # kept beyond the mode of whoever asks first
                value = compute()
            self._sources, self._stamp, self._value = [ref(source) for source in sources], stamp, value
        return value

    def _are_sources(self, tensors: Sequence[Tensor]) -> bool:
        """Whether the value was made from these very tensors: others may have come to lie in the memory of theirs."""
        return all(source() is tensor for source, tensor in zip(self._sources, tensors, strict=True))

    def forget(self) -> None:
        """Let the value go."""
        self._value = None
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():  # type: ignore[no-untyped-call]
            self._is_replayed = True
