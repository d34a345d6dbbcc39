"""The two lists whose product is the exactness test: implementations, and cases (an operator with its arguments).

A new implementation is one entry in IMPLEMENTATIONS, a new operator or input one in the lists of kernel_cases_*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from operator import mul
from pkgutil import iter_modules
from typing import Any

import cpu_emulation
import torch
from numpy.typing import NDArray
from torch import Tensor

from qbench import kernels
from qbench.kernels import backends, cpu
from qbench.kernels.checks import dense
from qbench.kernels.library import SCHEMAS
from qbench.kernels.random import counted

PUBLIC_MODULES = tuple(
    module
    for found in iter_modules(kernels.__path__)
    if not found.ispkg
    and found.name != "library"
    and hasattr(module := import_module(f"qbench.kernels.{found.name}"), "ops")
)
"""Where the checked functions of the operators are."""


@dataclass(frozen=True)
class Implementation:
    """One way to compute: a set of functions, for the C++ kernels limited to an instruction set or its emulation."""

    name: str
    level: str | None = None

    def __str__(self) -> str:
        return self.name if self.level is None else f"{self.name}-{self.level}"

    @property
    def device(self) -> str:
        return "cuda" if self.name == "cuda" else "cpu"

    def why_not(self) -> str:
        """Why it cannot run here; empty if it can."""
        return backends.why_not(self.name) or (cpu_emulation.why_not_level(self.level) if self.level else "")

    def function(self, op: str) -> Callable[..., Any] | None:
        return backends.find(op, self.name)

    def limited(self) -> AbstractContextManager[Any]:
        if self.level is None:
            return nullcontext()
        return cpu_emulation.limited_to(self.level)


IMPLEMENTATIONS = (
    *(Implementation("cpp", level) for level in cpu.LEVELS),
    Implementation("numba"),
    Implementation("onednn"),
    Implementation("cuda"),
)


@contextmanager
def serving(implementation: Implementation) -> Iterator[None]:
    """Within the context, an implementation serves every operator that it has."""
    before = dict(backends.CHOSEN)
    backends.CHOSEN.clear()
    found = {(op, implementation.device): implementation.function(op) for op in SCHEMAS}
    backends.CHOSEN.update((place, function) for place, function in found.items() if function is not None)
    try:
        with implementation.limited():
            yield
    finally:
        backends.CHOSEN.clear()
        backends.CHOSEN.update(before)


def cpp_levels() -> list[str]:
    """The levels of the C++ kernels that are tested here: the CPU's own, and those that are emulated."""
    return [str(one.level) for one in IMPLEMENTATIONS if one.name == "cpp" and not one.why_not()]


@dataclass(frozen=True)
class Case:
    """An operator and its arguments. relative: tolerance for float64 sums whose order is free; 0 is equality."""

    op: str
    label: str
    build: Callable[[], tuple[Any, ...]]
    relative: float = 0.0

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"

    @property
    def is_long(self) -> bool:
        """Whether sums have tens of thousands of terms, which takes emulated and sanitized loops long."""
        return "long-" in self.label or "K=" in self.label

    def arguments(self) -> list[Any]:
        """Built anew: an operator may change them."""
        return list(self.build())


def copy_to(value: Any, device: str) -> Any:
    """A tensor on ``device`` with the same strides, as far behind the start of its memory; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    first, last = value.storage_offset(), sum(map(mul, (n - 1 for n in value.shape), value.stride()))
    room = torch.empty(max(0, first + last + 1), dtype=value.dtype, device=device)
    return room.as_strided(value.shape, value.stride(), first).copy_(value)


def unaligned(case: Case) -> list[Any]:
    """A case's arguments in memory that starts between two vectors."""
    return [_moved(value) if isinstance(value, Tensor) and value.dim() else value for value in case.arguments()]


def _moved(x: Tensor) -> Tensor:
    room = torch.empty(x.numel() + 1, dtype=x.dtype)
    return room[1:].as_strided(x.shape, x.stride(), 1).copy_(x)


def results(implementation: Implementation, op: str, arguments: Sequence[Any]) -> list[Tensor]:
    """What a call with copies of the arguments returns, and then its tensor arguments, which it may have changed."""
    function = implementation.function(op)
    assert function is not None
    copies = [copy_to(value, implementation.device) for value in arguments]
    with implementation.limited():
        returned = function(*copies)
    outputs = [] if returned is None else [returned] if isinstance(returned, Tensor) else list(returned)
    for output in outputs:
        assert not output.numel() or output.stride() == strides_of(output.shape), (output.shape, output.stride())
    return [*outputs, *(value for value in copies if isinstance(value, Tensor))]


def strides_of(shape: torch.Size) -> tuple[int, ...]:
    """Those of a result of that shape, to the last one, though dimensions of size 1 would leave theirs open."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, memory_format=layout, device="meta").stride()


def difference(expected: Sequence[Tensor], found: Sequence[Tensor], relative: float = 0.0) -> str:
    """Where two lists of results first differ in shape, type or an element (NaN equals NaN); empty where nowhere.

    relative: what float64 elements may differ by, relative to the largest of the tensor.
    """
    if len(expected) != len(found):
        return f"{len(found)} results instead of {len(expected)}"
    for place, (wanted, result) in enumerate(zip(expected, found, strict=True)):
        got = result.cpu()
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return f"result {place}: {got.dtype} {tuple(got.shape)} instead of {wanted.dtype} {tuple(wanted.shape)}"
        differs = ~same(wanted, got, relative)
        if differs.any():
            first = [int(index[0]) for index in differs.nonzero(as_tuple=True)]
            values = f"{got[differs][:4].tolist()} instead of {wanted[differs][:4].tolist()}"
            return f"result {place}: {int(differs.sum())} of {wanted.numel()} differ, first at {first}: {values}"
    return ""


def same(wanted: Tensor, got: Tensor, relative: float) -> Tensor:
    """Element by element."""
    equal = (wanted == got) | (wanted.isnan() & got.isnan())
    if wanted.dtype != torch.float64 or not wanted.numel():
        return equal
    return equal | ((wanted - got).abs() <= relative * wanted.nan_to_num(0, 0, 0).abs().max())


def spaced(x: Tensor) -> Tensor:
    """Every second element of its memory; the others would be taken for an error."""
    return torch.stack([x, torch.full_like(x, 99)], -1)[..., 0]


def rows_of(x: Tensor) -> NDArray[Any]:
    """[rows, C]."""
    return counted(x).reshape(-1, x.shape[1]).numpy()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Filling = int | tuple[int, ...] | None
"""One value everywhere, some at random, or all that a type holds."""


def integers(shape: Sequence[int], dtype: torch.dtype, value: Filling = None, seed: int = 0) -> Tensor:
    """Of the given shape and type, dense."""
    if isinstance(value, int):
        return dense(torch.full(tuple(shape), value, dtype=dtype))
    limits = torch.iinfo(dtype)
    low, high = (limits.min, limits.max + 1) if value is None else (0, len(value))
    drawn = torch.randint(low, high, tuple(shape), generator=generator(seed))
    return dense((drawn if value is None else torch.tensor(value)[drawn]).to(dtype))


def normal(shape: Sequence[int], seed: int = 0, scale: float = 1.0) -> Tensor:
    return dense(torch.randn(tuple(shape), generator=generator(seed)) * scale)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)
