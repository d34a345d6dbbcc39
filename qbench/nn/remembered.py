"""What follows from parameters and buffers alone: in evaluation it is computed once, not for every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Remembered(Generic[T]):
    """One value made from tensors, until one of these is another or has changed.

    PyTorch does not notice every change (``weight.data.add_()``, say), so a forward pass in training forgets. One that
    is captured in a CUDA graph ends all remembering: nothing notices when it is replayed.
    """

    def __init__(self) -> None:
        self._stamp: list[tuple[int, int]] = []
        self._value: T | None = None
        self._is_replayed = False

    def get(self, sources: Sequence[Tensor], compute: Callable[[], T]) -> T:
        """The value, computed if it is not known. sources: all that ``compute`` reads and that may change."""
        if self._is_replayed or any(source.is_inference() for source in sources):  # such tensors count no changes
            return compute()
        stamp = [(source.data_ptr(), source._version) for source in sources]
        value = self._value
        if value is None or stamp != self._stamp:
            with torch.inference_mode(False), torch.no_grad():  # kept beyond the mode of whoever asks first
                value = compute()
            self._stamp, self._value = stamp, value
        return value

    def forget(self) -> None:
        """Let the value go."""
        self._value = None
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():  # type: ignore[no-untyped-call]
            self._is_replayed = True
