"""Comparison of kernels with the reference, on the operands that a program really gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qbench.kernels import backends
from qbench.kernels.library import NAMESPACE

ROUNDING = 1e-10
"""Of float64 results, relative to the largest: they are sums whose order each implementation chooses, of up to millions
of terms."""


class Witness(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within this context every kernel that is called is called a second time, as the reference with copies of its
    operands, and what both return and write is compared: for equality, but for sums in float64.

    differences: for every operator that was called, where its calls first differ; empty where nowhere.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.differences: dict[str, str] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace != NAMESPACE:
            return func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        reference = backends.find(name, "reference")
        assert reference is not None, "every operator has one"
        copies = [copy_of(arg) for arg in args]
        returned = func(*args)
        wanted = reference(*copies)
        found = difference(tensors_of([wanted, copies]), tensors_of([returned, args]))
        self.differences[name] = self.differences.get(name) or found
        return returned


def copy_of(arg: Any) -> Any:
    """An operand that the reference may write over."""
    return arg.clone() if isinstance(arg, Tensor) else arg


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors among what an operator takes or returns, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def difference(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> str:
    """The first element of ``found`` that is not that of ``wanted``; empty where all are the same, as NaN and NaN."""
    if len(wanted) != len(found):
        return f"{len(found)} tensors instead of {len(wanted)}"
    return next((text for pair in zip(wanted, found, strict=True) if (text := _difference(*pair))), "")


def _difference(wanted: Tensor, found: Tensor) -> str:
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return f"{found.dtype} {tuple(found.shape)} instead of {wanted.dtype} {tuple(wanted.shape)}"
    allowed = 0.0
    if wanted.dtype == torch.float64 and wanted.numel():
        allowed = ROUNDING * float(wanted.nan_to_num(0.0, 0.0, 0.0).abs().max())
    differs = ~torch.isclose(found, wanted, rtol=0.0, atol=allowed, equal_nan=True)
    return f"{found[differs][0].item()} instead of {wanted[differs][0].item()}" if differs.any() else ""
