"""The two lists whose product is the exactness test: implementations, and cases (an operator with its arguments).

A new implementation is one entry in IMPLEMENTATIONS, a new operator or input one in the lists of kernel_cases_*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from qbench.kernels import backends, cpu


@dataclass(frozen=True)
class Implementation:
    """One way to compute: a set of functions, for the C++ kernels limited to an instruction set."""

    name: str
    level: str | None = None

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}-{self.level}"

    @property
    def device(self) -> str:
        return "cuda" if self.name == "cuda" else "cpu"

    def why_not(self) -> str:
        """Why it cannot run here; empty if it can."""
        reason = backends.why_not(self.name)
        if reason or self.level is None:
            return reason
        return "" if self.level in cpu.levels() else f"this CPU has no {self.level}"

    def function(self, op: str) -> Callable[..., Any] | None:
        return backends.find(op, self.name)

    def limited(self) -> AbstractContextManager[Any]:
        if self.level is None:
            return nullcontext()
        return cpu.limited_to(self.level)


IMPLEMENTATIONS = (
    *(Implementation("cpp", level) for level in cpu.LEVELS),
    Implementation("numba"),
    Implementation("onednn"),
    Implementation("cuda"),
)


@dataclass(frozen=True)
class Case:
    """An operator and its arguments. relative: tolerance for float64 sums whose order is free; 0 is equality."""

    op: str
    label: str
    build: Callable[[], tuple[Any, ...]]
    relative: float = 0.0

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"

    def arguments(self, device: str = "cpu") -> list[Any]:
        """Fresh copies, which an operator may change."""
        return [copy_to(value, device) for value in built(self)]


@lru_cache(maxsize=1)
def built(case: Case) -> tuple[Any, ...]:
    """A case's arguments, kept while one implementation after the other meets them."""
    return case.build()


def copy_to(value: Any, device: str) -> Any:
    """A tensor on ``device`` with the same strides; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    same = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    return same.copy_(value)


def results(function: Callable[..., Any], arguments: Sequence[Any]) -> list[Tensor]:
    """What a call returns, and then its tensor arguments, which it may have changed."""
    returned = function(*arguments)
    outputs = [] if returned is None else [returned] if isinstance(returned, Tensor) else list(returned)
    for output in outputs:
        layout = torch.channels_last if output.dim() == 4 else torch.contiguous_format
        assert not output.numel() or output.is_contiguous(memory_format=layout), (output.shape, output.stride())
    return [*outputs, *(value for value in arguments if isinstance(value, Tensor))]


def assert_same(expected: Sequence[Tensor], found: Sequence[Tensor], relative: float = 0.0) -> None:
    """Equal shapes, types and elements (NaN equals NaN); float64 within the tolerance."""
    assert len(expected) == len(found)
    for place, (wanted, result) in enumerate(zip(expected, found, strict=True)):
        got = result.cpu()
        assert got.shape == wanted.shape and got.dtype == wanted.dtype, (place, got.shape, got.dtype)
        if wanted.dtype == torch.float64:
            scale = float(wanted.nan_to_num(0).abs().max()) if wanted.numel() else 0.0
            torch.testing.assert_close(got, wanted, rtol=relative, atol=relative * scale, equal_nan=True)
        else:
            torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True, msg=_difference(place, wanted, got))


def _difference(place: int, wanted: Tensor, got: Tensor) -> str:
    differs = (wanted != got) & ~(wanted.isnan() & got.isnan())
    first = [int(index[0]) for index in differs.nonzero(as_tuple=True)] if differs.any() else None
    return (
        f"result {place}: {int(differs.sum())} of {wanted.numel()} differ, first at {first}: "
        f"{got[differs][:4].tolist()} instead of {wanted[differs][:4].tolist()}"
    )


def runnable(cases: Sequence[Case]) -> list[tuple[Case, Implementation]]:
    """Every case on every implementation of this machine that serves its operator, case by case."""
    present = [implementation for implementation in IMPLEMENTATIONS if not implementation.why_not()]
    return [(case, implementation) for case in cases for implementation in present if implementation.function(case.op)]


def image(x: Tensor) -> Tensor:
    """Dense memory, as the operators take it."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def integers(shape: Sequence[int], dtype: torch.dtype, value: int | None = None, seed: int = 0) -> Tensor:
    """Random over the whole type, or one value."""
    limits = torch.iinfo(dtype)
    if value is not None:
        return image(torch.full(tuple(shape), value, dtype=dtype))
    return image(torch.randint(limits.min, limits.max + 1, tuple(shape), generator=generator(seed)).to(dtype))


def normal(shape: Sequence[int], seed: int = 0, scale: float = 1.0) -> Tensor:
    return image(torch.randn(tuple(shape), generator=generator(seed)) * scale)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)
