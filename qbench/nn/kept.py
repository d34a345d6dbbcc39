"""What a layer keeps for backward: tensors as they are, codes as integers, activations as the codes they come from.

Everything goes through autograd's ``save_for_backward``, so that memory hooks see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qbench.kernels.random import Key
from qbench.nn.views import NOTHING, AnyView, PooledView, SumView, View, stored, stored_codes
from qbench.quant.formats import Affine, Quantizer
from qbench.quant.qtensor import QTensor

Value = Tensor | QTensor


@dataclass(frozen=True)
class Plain:
    """A float tensor, kept as it is."""

    value: Tensor

    def tensors(self) -> tuple[Tensor | None, ...]:
        return (self.value,)

    def rebuilt(self, tensors: Sequence[Any]) -> Plain:
        return Plain(tensors[0])

    def description(self) -> Plain:
        """Itself without its tensors."""
        return Plain(NOTHING)


@dataclass(frozen=True)
class Quantized:
    """A quantised tensor, kept as integers; codes of few bits share bytes."""

    value: QTensor

    def tensors(self) -> tuple[Tensor | None, ...]:
        q = self.value
        return stored(q.codes, _bits(q.format)), q.scale, q.zero_point, q.table

    def description(self) -> QuantizedDescription:
        """Itself without its tensors."""
        return QuantizedDescription(self.value.codes.shape, self.value.format)


@dataclass(frozen=True)
class QuantizedDescription:
    """Shape and format of a quantised tensor."""

    shape: torch.Size
    format: Quantizer

    def rebuilt(self, tensors: Sequence[Any]) -> Quantized:
        codes, scale, zero_point, table = tensors
        codes = stored_codes(codes, _bits(self.format), self.shape)
        return Quantized(QTensor(codes, scale, zero_point, self.format, table))


def _bits(spec: Quantizer) -> int:
    return int(spec.storage_bits) if spec.code_dtype == "uint8" else 8


@dataclass(frozen=True)
class Recomputed:
    """An activation that is a view of what is kept anyway: computed again when it is needed, with the same result.

    encoding: format, range and random key with which it, then of codes, is quantised; None for its float values.
    found: those, where they exist already.
    """

    view: AnyView | PooledView | SumView
    encoding: tuple[Affine, tuple[Tensor, Tensor], Key] | None = None
    found: Tensor | None = None

    @property
    def value(self) -> Value:
        """The operand, computed now."""
        if self.encoding is None:
            return self.view.values()[0] if self.found is None else self.found
        assert isinstance(self.view, View)
        return self.view.encode(*self.encoding)

    def tensors(self) -> tuple[Tensor | None, ...]:
        limits = (None, None) if self.encoding is None else self.encoding[1]
        return *self.view.tensors(), *limits

    def rebuilt(self, tensors: Sequence[Any]) -> Recomputed:
        encoding = None if self.encoding is None else (self.encoding[0], tuple(tensors[-2:]), self.encoding[2])
        return Recomputed(self.view.rebuilt(tensors[:-2]), encoding)  # type: ignore[arg-type]

    def description(self) -> Recomputed:
        """Itself without its tensors."""
        encoding = None if self.encoding is None else (self.encoding[0], (NOTHING, NOTHING), self.encoding[2])
        return Recomputed(self.view.description(), encoding)


@dataclass(frozen=True)
class Reencoded:
    """A float tensor that exists anyway, kept in place of its codes: they are made again when they are needed, with the
    same result. encode: from the tensor to its codes."""

    source: Tensor
    encode: Callable[[Tensor], QTensor]

    @property
    def value(self) -> QTensor:
        """The codes, made now."""
        return self.encode(self.source.detach())

    def tensors(self) -> tuple[Tensor | None, ...]:
        return (self.source,)

    def rebuilt(self, tensors: Sequence[Any]) -> Reencoded:
        return Reencoded(tensors[0], self.encode)

    def description(self) -> Reencoded:
        """Itself without its tensor."""
        return Reencoded(NOTHING, self.encode)


Operand = Plain | Quantized | Recomputed | Reencoded


def operand(value: Value) -> Operand:
    """A value as it will be kept."""
    return Quantized(value) if isinstance(value, QTensor) else Plain(value)


def keep(ctx: Any, operands: Sequence[Operand], others: Sequence[Tensor | None] = ()) -> None:
    """Keep operands and other tensors for the backward of ``ctx``."""
    groups = [item.tensors() for item in operands]
    # The context holds descriptions, never the tensors themselves: those belong to autograd.
    ctx.kept = [(item.description(), len(group)) for item, group in zip(operands, groups, strict=True)]
    ctx.save_for_backward(*(tensor for group in groups for tensor in group), *others)


def kept(ctx: Any) -> tuple[list[Operand], tuple[Tensor, ...]]:
    """The operands and the other tensors that :func:`keep` took."""
    saved = ctx.saved_tensors
    operands, start = [], 0
    for description, count in ctx.kept:
        operands.append(description.rebuilt(saved[start : start + count]))
        start += count
    return operands, saved[start:]


def release(ctx: Any) -> None:
    """Let go of what was kept before the backward of ``ctx`` ends, unless the graph is."""
    # torch 2.8 and later have it, for their own compiler.
    getattr(ctx, "maybe_clear_saved_tensors", lambda: None)()


def keeps_graph() -> bool:
    """Whether the backward pass under way may be followed by another (``retain_graph``): then what was kept must stay
    as it is."""
    return bool(_KEEPS_GRAPH())


_KEEPS_GRAPH: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
"""PyTorch's own answer; without it, as if always."""
