"""Settings of PyTorch's, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


def threads(count: int) -> AbstractContextManager[None]:
    return _changed(torch.get_num_threads, torch.set_num_threads, count)


def default_type(dtype: torch.dtype) -> AbstractContextManager[None]:
    """What PyTorch makes of floats where nothing else is said."""
    return _changed(torch.get_default_dtype, torch.set_default_dtype, dtype)


@contextmanager
def _changed(read: Callable[[], T], change: Callable[[T], None], value: T) -> Iterator[None]:
    before = read()
    change(value)
    try:
        yield
    finally:
        change(before)
