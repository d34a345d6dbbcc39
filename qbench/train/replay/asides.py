"""What a step does beside its operators, where a recorder of operators sees nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

WAYS_ASIDE = frozenset(
    {
        Tensor.numpy,
        Tensor.__array__,
        Tensor.__dlpack__,
        Tensor.tolist,
        Tensor.storage,
        Tensor.apply_,
        Tensor.map_,
        Tensor.map2_,  # type: ignore[attr-defined]
    }
)
"""Methods of tensors that give their memory to Python, to be read or written without an operator."""


class Asides(TorchFunctionMode):
    """Notices, while it is active, what is done past the operators: to the memory of tensors, and to the state of
    PyTorch's random numbers, which a recomputed dropout sets back. found: what it was; empty where nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.found = ""
        self._state = b""

    def __enter__(self) -> Asides:
        self.expect_state()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self.look_at_state()

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function and note it where it is a way aside."""
        if func in WAYS_ASIDE:
            self.found = f"Tensor.{func.__name__} tells Python what is in a tensor"
        return func(*args, **(kwargs or {}))

    def look_at_state(self) -> None:
        """Before an operator, or behind the last one: whether random numbers go on where the last one left them."""
        if self._state != _random_state():
            self.found = "a step sets the state of PyTorch's random numbers"

    def expect_state(self) -> None:
        """Behind an operator."""
        self._state = _random_state()


def _random_state() -> bytes:
    return torch.default_generator.get_state().numpy().tobytes()
