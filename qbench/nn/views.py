"""What an activation's values come from where they are no tensor of the graph: a view of codes or of a norm's input, or
floats that are held for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qbench.kernels import passes
from qbench.kernels.checks import Pair
from qbench.kernels.direct import direct_view, encode_direct_view
from qbench.kernels.packing import pack_bits, unpack_bits
from qbench.kernels.pooling import max_pool2d_direct_view, max_pool2d_view
from qbench.kernels.random import Key
from qbench.quant.formats import Affine, Direct
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import code_type, random_bits
from qbench.quant.ranges import Range

PACKED_BITS = 4
"""Codes of at most this many bits share bytes."""

NOTHING = torch.empty(0)
"""Where a description has no tensor."""


@dataclass(frozen=True)
class View:
    """max(slope * t(code) + offset, 0) per channel, without the max where there is no ReLU.

    stored: the codes, uint8, channels-last, packed where ``bits`` <= 4. shape: of the codes, [N, C, H, W] or [N, C].
    slope, offset: float32 [C]. table: t, float32 [2^bits]; None where t is the code itself.
    extremes: smallest and largest value, float32 [2]; None where they were not needed. version: how often the codes had
    been changed when the view was made.
    """

    stored: Tensor
    shape: torch.Size
    bits: int
    slope: Tensor
    offset: Tensor
    relu: bool
    extremes: Tensor | None = None
    table: Tensor | None = None
    version: int | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", changes_of(self.stored))

    @property
    def codes(self) -> Tensor:
        """The codes, one per byte; raises RuntimeError where they have been changed."""
        if changes_of(self.stored) != self.version:
            raise RuntimeError(
                "the values of a block's output were asked for after the backward pass overwrote its codes: ask before"
            )
        return stored_codes(self.stored, self.bits, self.shape)

    def values(self, trunk: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(values float32, their extremes [2], bits [value > 0] of a ReLU); ``trunk`` is added before the ReLU."""
        line = (self.slope, self.offset, self.relu, trunk)
        if self.table is None:
            values, extremes, bits = passes.affine_view(self.codes, *line)
        else:
            values, extremes, bits = passes.level_view(self.codes, self.table, *line)
        return values, extremes, bits

    def encode(self, spec: Affine, limits: Range, key: Key) -> QTensor:
        """The values as affine codes, in one pass over the codes."""
        assert self.table is None
        codes, scale, zero_point = passes.encode_affine_view(
            self.codes, self.slope, self.offset, self.relu, *limits,
            spec.bits, spec.scheme == "zero_point", random_bits(spec, key), None, None,
        )  # fmt: skip
        return QTensor(codes, scale, zero_point, spec)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What has to be kept to rebuild the view."""
        return self.stored, self.slope, self.offset, self.extremes, self.table

    def rebuilt(self, tensors: Sequence[Any]) -> View:
        """The same view of tensors that autograd kept."""
        stored, slope, offset, extremes, table = tensors
        return View(stored, self.shape, self.bits, slope, offset, self.relu, extremes, table)

    def description(self) -> View:
        """Itself without its tensors."""
        return View(NOTHING, self.shape, self.bits, NOTHING, NOTHING, self.relu)

    def pooled(self, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Tensor, Tensor]:
        """Max pooling of the values, as :func:`~qbench.kernels.pooling.max_pool2d` gives it."""
        line = (self.table, self.slope, self.offset, self.relu)
        return max_pool2d_view(self.codes, *line, kernel, stride, padding)


@dataclass(frozen=True)
class DirectView:
    """max(slope * t + offset, 0) per channel with t = clip(round((x - mean) * inverse * unit), -top, top), without the
    max where there is no ReLU.

    x: float32, [N, C, H, W] or [N, C]. mean, inverse, slope, offset: float32 [C].
    """

    x: Tensor
    mean: Tensor
    inverse: Tensor
    unit: float
    top: float
    slope: Tensor
    offset: Tensor
    relu: bool

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, float, float, Tensor, Tensor, bool]:
        """As the functions of :mod:`qbench.kernels.direct` take them."""
        return self.x, self.mean, self.inverse, self.unit, self.top, self.slope, self.offset, self.relu

    def values(self, trunk: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(values float32, bits [value > 0] of a ReLU); ``trunk`` is added before the ReLU."""
        values, bits = direct_view(*self.arguments, trunk)
        return values, bits

    def encode(self, spec: Direct) -> QTensor:
        """The values on a direct grid, to nearest, in one pass over ``x``."""
        top = spec.largest_integer
        codes, scale = encode_direct_view(*self.arguments, 2.0 ** (1 - spec.bits), -top, top, code_type(spec))
        return QTensor(codes, scale, None, spec)

    def tensors(self) -> tuple[Tensor, ...]:
        """What has to be kept to rebuild the view."""
        return self.x, self.mean, self.inverse, self.slope, self.offset

    def rebuilt(self, tensors: Sequence[Any]) -> DirectView:
        """The same view of tensors that autograd kept."""
        x, mean, inverse, slope, offset = tensors
        return DirectView(x, mean, inverse, self.unit, self.top, slope, offset, self.relu)

    def description(self) -> DirectView:
        """Itself without its tensors."""
        return self.rebuilt([NOTHING] * 5)

    def pooled(self, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Tensor, Tensor]:
        """Max pooling of the values, as :func:`~qbench.kernels.pooling.max_pool2d` gives it."""
        return max_pool2d_direct_view(*self.arguments, kernel, stride, padding)


AnyView = View | DirectView


@dataclass(frozen=True)
class PooledView:
    """Max pooling of a view. geometry: kernel, stride and padding."""

    view: AnyView
    geometry: tuple[Pair, Pair, Pair]

    def values(self) -> tuple[Tensor]:
        """The values, float32."""
        return (self.view.pooled(*self.geometry)[0],)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What has to be kept to rebuild it."""
        return self.view.tensors()

    def rebuilt(self, tensors: Sequence[Any]) -> PooledView:
        """The same of tensors that autograd kept."""
        return PooledView(self.view.rebuilt(tensors), self.geometry)

    def description(self) -> PooledView:
        """Itself without its tensors."""
        return PooledView(self.view.description(), self.geometry)


def changes_of(x: Tensor) -> int | None:
    """How often ``x`` was changed in place; None for a tensor of ``torch.inference_mode``, which counts no changes."""
    return None if x.is_inference() else x._version


@dataclass(frozen=True)
class Given:
    """A float tensor of somebody else, where a residual stream begins. version: how often it had been changed."""

    x: Tensor
    version: int | None

    @classmethod
    def of(cls, x: Tensor) -> Given:
        """``x`` as it is now."""
        return cls(x.detach(), changes_of(x))

    def values(self) -> tuple[Tensor]:
        """The tensor; raises RuntimeError where it has been changed."""
        if changes_of(self.x) != self.version:
            raise RuntimeError("what was added to a block's output was changed in place: change a clone of it")
        return (self.x,)

    def tensors(self) -> tuple[Tensor, ...]:
        """What has to be kept to rebuild it."""
        return (self.x,)

    def rebuilt(self, tensors: Sequence[Any]) -> Given:
        """The same of a tensor that autograd kept."""
        return Given.of(tensors[0])

    def description(self) -> Given:
        """Itself without its tensor."""
        return Given.of(NOTHING)


@dataclass(frozen=True)
class SumView:
    """branch + shortcut, then ReLU where the branch has one: a place of a residual stream, as what is kept of it.

    The shortcut may be a sum itself, and so on to where the stream begins; values are computed from there.
    """

    branch: View
    shortcut: AnyView | PooledView | SumView | Given

    def values(self) -> tuple[Tensor, Tensor, Tensor]:
        """(values float32, their extremes [2], bits [value > 0] of a ReLU)."""
        return self.branch.values(self.shortcut.values()[0])

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What has to be kept to rebuild it."""
        return *self.branch.tensors(), *self.shortcut.tensors()

    def rebuilt(self, tensors: Sequence[Any]) -> SumView:
        """The same of tensors that autograd kept."""
        count = len(self.branch.tensors())
        return SumView(self.branch.rebuilt(tensors[:count]), self.shortcut.rebuilt(tensors[count:]))

    def description(self) -> SumView:
        """Itself without its tensors."""
        return SumView(self.branch.description(), self.shortcut.description())


class Held:
    """Float values that are held while they are wanted, and computed again from codes where they are asked for later.

    A residual stream has to be a float tensor while something is added to it or a product reads it; between these times
    its values need no memory. values: float32, [N, C, H, W] or [N, C]. extremes: of them, float32 [2]; None where they
    were not needed. again: computes them anew, the same bit for bit; None where nothing else knows them, which are
    then held for good. view: what is kept anyway and says them for the backward pass too; None where there is none.
    known: what quantisers found for them; kept also when the values are not.
    """

    def __init__(
        self,
        values: Tensor,
        extremes: Tensor | None,
        again: Callable[[], Tensor] | None,
        view: SumView | PooledView | None = None,
    ) -> None:
        self.shape = values.shape
        self.extremes = extremes
        self.view = view
        self.known = dict[Any, Any]()
        self._again = again
        self._values: Tensor | None = values.detach()
        self._version = changes_of(values)

    @property
    def is_held(self) -> bool:
        """Whether the values exist as a tensor now."""
        return self._values is not None

    def values(self) -> tuple[Tensor]:
        """The values; not to be changed in place."""
        if self._values is not None:
            if changes_of(self._values) != self._version:
                raise RuntimeError(
                    "the values of a block's output were changed in place: change a clone, the block still reads them"
                )
            return (self._values,)
        assert self._again is not None
        return (self._again(),)

    def release(self) -> None:
        """Hold the values no longer, where they can be computed again."""
        if self._again is not None:
            self._values = None


def added(view: View, trunk: Tensor, source: Source | None) -> tuple[Held, Tensor]:
    """``view`` plus a residual stream, and the mask of the ReLU behind it. source: of the stream's values, if they are
    not those of the tensor ``trunk``. They end here: they are computed again where somebody else reads them."""
    below = trunk if source is None else source.values()[0]
    values, _, mask = view.values(below)
    if isinstance(source, Held):
        total = SumView(view, Given.of(below) if source.view is None else source.view)
        source.release()
    else:
        total = SumView(view, source if isinstance(source, AnyView) else Given.of(below))
    return Held(values, None, lambda: total.values()[0], total), mask


@dataclass(frozen=True)
class Coded:
    """An activation that is on its grid already: its codes say all."""

    q: QTensor

    def values(self) -> tuple[Tensor]:
        """The values, float32."""
        return (self.q.dequantize(),)


Source = AnyView | Held | Coded
"""What a deferred activation's values come from."""


def stored(codes: Tensor, bits: int) -> Tensor:
    """Codes as they are kept: packed where several fit a byte."""
    return pack_bits(codes, bits) if bits <= PACKED_BITS else codes


def stored_codes(kept: Tensor, bits: int, shape: torch.Size) -> Tensor:
    """The inverse of :func:`stored`."""
    return unpack_bits(kept, bits, shape) if bits <= PACKED_BITS else kept
