"""Sites: the named places of a converted model where one tensor is quantised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.kernels.encoding import extremes
from qbench.kernels.passes import move_average_
from qbench.kernels.pooling import Pooled
from qbench.kernels.random import Key
from qbench.nn.clock import Clock, tensor_id
from qbench.nn.deferred import defer, materialised, parted, sink_of
from qbench.nn.gradient_sink import GradientSink, sent_in_codes
from qbench.nn.once import differentiable_once
from qbench.nn.uncompiled import uncompiled
from qbench.nn.views import Held
from qbench.quant.formats import Affine, Quantizer
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import has_rule, quantize, rounded
from qbench.quant.ranges import measure_range, poisoned


@dataclass
class CodesSeen:
    """The smallest and the largest code noted so far; None before the first."""

    low: Tensor | None = None
    high: Tensor | None = None

    def add(self, codes: Tensor) -> None:
        """Note those of one more tensor."""
        low, high = torch.aminmax(codes)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)


class Site(nn.Module):
    """Quantises one tensor of one layer in one format.

    name: ``layer/path``, for example ``stage1.0.first.conv/activation``. In evaluation mode rounding is to nearest
    and a tracked range is used instead of the batch's own. watcher: is shown every tensor that is quantised here,
    beside its exact values (float32, of the same shape); None while nobody watches.
    Raises InputError for a format that no rule rounds to.
    """

    tracked: Tensor

    def __init__(self, spec: Quantizer, name: str, clock: Clock) -> None:
        super().__init__()
        if not has_rule(spec):
            raise InputError(
                f"{name} is to be quantised to {type(spec).__name__}, which qbench has no rule for: take one of its "
                "own formats, or quantise in the recipe's transform"
            )
        self.spec = spec
        self.name = name
        self.clock = clock
        self.identity = tensor_id(name)
        self.seen = CodesSeen()
        self.watcher: Watcher | None = None
        self.is_tracked = isinstance(spec, Affine) and spec.tracked
        if self.is_tracked:
            self.register_buffer("tracked", torch.full((2,), torch.nan, dtype=torch.float32))
            self.may_lack_range = True  # asked of the buffer again only after it was loaded

    @torch.no_grad()
    def forward(self, x: Tensor, measured: Tensor | None = None) -> QTensor:
        """Encode ``x`` (float32, any shape). measured: its extremes, float32 [2], where they are known already."""
        x = materialised(x)
        known = Known.found(x)
        if known is not None and known.grid is not None and shares_grid(known.grid.format, self.spec):
            return self.observe(replace(known.grid, format=self.format), lambda: x)
        if known is not None and measured is None:
            measured = known.extremes
        # Activations alone are read in several places. A leaf, a batch or a parameter, outlives the step and would keep
        # its codes, also when it is changed as ``x.data.add_()`` and fused optimisers do, which nothing counts.
        if self.is_repeatable and not x.is_leaf:
            return self.observe(self._encode_known(Known.of(x).codes, lambda: x, measured), lambda: x)
        return self.observe(self._encode(x, measured), lambda: x)

    @torch.no_grad()
    def rounded(self, x: Tensor, measured: Tensor | None = None) -> Tensor:
        """The values of :meth:`forward`'s codes, float32 in memory of their own, which need not be made."""
        if self.is_observed or self.is_tracked:
            return self(x, measured).dequantize()  # type: ignore[no-any-return]
        x = materialised(x)
        return rounded(x, self.format, self.next_key(), self._known_limits(measured))

    @torch.no_grad()
    def encode_again(self, x: Tensor) -> QTensor:
        """The codes that ``x`` got in training, unobserved; only where :attr:`is_repeatable`."""
        return quantize(x, self.spec, self.key, self._range_of(x, None) if self.is_tracked else None)

    @property
    def is_repeatable(self) -> bool:
        """Whether the codes follow from the tensor alone, whenever it is encoded."""
        return self.training and self.spec == nearest_version(self.spec)

    @torch.no_grad()
    def encode_held(self, held: Held) -> QTensor:
        """Encode values that may have to be computed again; what another site found for them serves here too."""
        if self.is_repeatable:
            q = self._encode_known(held.known, lambda: held.values()[0], held.extremes)
        else:
            q = self._encode(held.values()[0], held.extremes)
        return self.observe(q, lambda: held.values()[0])

    def _encode(self, x: Tensor, measured: Tensor | None) -> QTensor:
        limits = self.limits(self._range_of(x, measured)) if self.is_tracked else self._known_limits(measured)
        return quantize(x, self.format, self.next_key(), limits)

    def _encode_known(self, known: Found, values: Callable[[], Tensor], measured: Tensor | None) -> QTensor:
        """As ``_encode`` without random bits; what another site found for the same ``values`` serves here too."""
        found = known.get(self.spec)
        if found is None:
            x = values()
            tracked = self._range_of(x, measured) if self.is_tracked else None
            limits = self._known_limits(measured) if tracked is None else tracked
            found = known[self.spec] = quantize(x, self.spec, self.key, limits), tracked
        q, tracked = found
        if tracked is not None:
            self.limits(tracked)
        return q

    def _known_limits(self, measured: Tensor | None) -> Tensor | None:
        """The range to quantise with that follows from a tensor's extremes, if they are known."""
        return measured if getattr(self.spec, "takes_extremes", True) else None

    def draw(self, x: Tensor) -> QTensor:
        """``x`` rounded at random: one member of an ensemble, always the same for one ``clock.draw``."""
        spec = replace(self.spec, rounding="stochastic")  # type: ignore[call-arg]
        identity = tensor_id(f"{self.name}/draw")
        return quantize(x, spec, Key(self.clock.seed, identity, self.clock.draw, self.clock.generator))

    @property
    def format(self) -> Quantizer:
        """The format in use: rounding to nearest in evaluation mode."""
        return self.spec if self.training else nearest_version(self.spec)

    @property
    def key(self) -> Key:
        """Of this step's random bits: the same for each use of a layer in the forward pass. What a checkpoint makes
        again has to draw what it drew before, and nothing tells it from another use."""
        return self.clock.key(self.identity)

    def next_key(self) -> Key:
        """Of the bits that a tensor is rounded with now; :attr:`key` until the next one is."""
        return self.key

    def _range_of(self, x: Tensor, measured: Tensor | None) -> Tensor:
        """The batch's own range [2]. measured: the extremes of ``x``, if they are known."""
        spec = cast(Affine, self.spec)
        if not spec.takes_extremes:
            return torch.stack(measure_range(spec, x))
        return extremes(x) if measured is None else measured

    @property
    def has_fixed_range(self) -> bool:
        """Whether the range to quantise with is known without the tensor: a tracked one, in evaluation."""
        return self.is_tracked and not self.training

    def limits(self, measured: Tensor) -> Tensor:
        """The range [2] to quantise with, given the batch's own; moves a tracked range towards it in training.

        A fixed range is NaN where ``measured`` is not finite: codes cannot say that a tensor is not. A tracked one that
        a batch has made NaN remains so, as a batch norm's statistics do, until a state is loaded. Raises RuntimeError
        in evaluation where no range was ever seen.
        """
        if self.has_fixed_range:
            if self.may_lack_range:
                self._require_range()
            return poisoned(self.tracked, measured)
        if self.is_tracked:
            missing = self.tracked.isnan() if self.may_lack_range else None
            move_average_(self.tracked, measured, 1 - cast(Affine, self.spec).old_weight)
            if missing is not None:
                # + 0.0, as it depends on who looks whether -0 or 0 is the largest.
                self.tracked.copy_(torch.where(missing, measured + 0.0, self.tracked))
                self.may_lack_range = False
        return measured

    def _require_range(self) -> None:
        if self.tracked.isnan().any():
            raise RuntimeError(
                f"{self.name} has no range yet: train the model for a step, or load the state of a trained one, before "
                "evaluating it"
            )
        self.may_lack_range = False

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self.may_lack_range = True

    @property
    def is_observed(self) -> bool:
        """Whether anybody would look at this step's codes."""
        return self.watcher is not None or (self.training and self.clock.is_noting)

    def observe(self, q: QTensor, exact: Callable[[], Tensor]) -> QTensor:
        """Note which codes are in use, now and then; returns ``q``.

        exact: makes what ``q`` stands for (float32, of its shape); asked only where somebody watches, because a block
        that keeps codes alone has to compute it.
        """
        if self.watcher is not None:
            self.watcher(self, q, exact())
        if self.training and self.clock.is_noting and q.codes.numel():
            self.seen.add(q.codes)
        return q

    def extra_repr(self) -> str:
        return f"{self.name}, {self.spec}"


class BackwardSite(Site):
    """A site of the backward pass, which is a training's whatever mode the model is in by then: it may have been
    evaluated since the forward pass."""

    @property
    def key(self) -> Key:
        """Of the newest draw's random bits, others at each draw of one backward pass. A layer that was used several
        times has as many gradients: with the same bits their rounding errors would add up instead of averaging out."""
        before = self.clock.draws.before(self.identity)
        return self.clock.key(self.identity if before == 0 else tensor_id(f"{self.name}/{before}"))

    def next_key(self) -> Key:
        """Of one more draw."""
        self.clock.draws.begin(self.identity)
        return self.key

    @property
    def format(self) -> Quantizer:
        """The format itself."""
        return self.spec

    @property
    def has_fixed_range(self) -> bool:
        """Never."""
        return False


Found = dict[Quantizer, tuple[QTensor, Tensor | None]]
"""Codes of one tensor by format, with the range they were made of where it is tracked."""


class Known:
    """What is known of a tensor: kept with it until it is changed or gone.

    codes: where it is quantised in several places, as a trunk is that a branch and a shortcut read. extremes: float32
    [2], where its producer found them. grid: its codes, where its producer rounded it to a fixed grid.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.codes: Found = {}
        self.extremes: Tensor | None = None
        self.grid: QTensor | None = None

    @classmethod
    def found(cls, x: Tensor) -> Known | None:
        """What is known of ``x`` as it is now; None where nothing is."""
        known: Known | None = getattr(x, "qbench_known", None)
        return known if known is not None and known.version == x._version else None

    @classmethod
    def of(cls, x: Tensor) -> Known:
        """The same, to be added to. ``x`` counts its changes: it is no tensor of ``torch.inference_mode``."""
        known = cls.found(x)
        if known is None:
            known = x.qbench_known = cls(x._version)  # type: ignore[attr-defined]
        return known


def shares_grid(one: Quantizer, other: Quantizer) -> bool:
    """Whether values that one format gave have the same codes in the other, however that rounds."""
    return one.is_fixed_grid and nearest_version(one) == nearest_version(other)


Watcher = Callable[[Site, QTensor, Tensor], None]
"""What :attr:`Site.watcher` is: called with the site, the quantised tensor and the exact one."""


@cache
def nearest_version(spec: Quantizer) -> Quantizer:
    """The same format rounding to nearest."""
    return replace(spec, rounding="nearest") if hasattr(spec, "rounding") else spec  # type: ignore[call-arg]


def apply_function(function: type[torch.autograd.Function], *arguments: object) -> Tensor:
    """``function.apply``, which PyTorch leaves untyped, on the values of deferred activations."""
    values = [materialised(argument) for argument in arguments]
    return cast(Tensor, function.apply(*values))  # type: ignore[no-untyped-call]


class GradientSite(nn.Module):
    """Identity forward; quantises the gradient that comes back through it."""

    def __init__(self, spec: Quantizer, name: str, clock: Clock) -> None:
        super().__init__()
        self.site = BackwardSite(spec, name, clock)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``; its gradient will be quantised."""
        if not self.training:
            return x
        (token, source), sink = parted(x), GradientSink()
        y = apply_function(_QuantizeGradient, token, self.site, sink_of(x), sink)
        if source is not None:
            return defer(y, source, sink)
        known = Known.found(token)
        if known is not None:
            y.qbench_known = known  # type: ignore[attr-defined]  # a view counts the changes of what it shows
        return y


class _QuantizeGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, site: Site, x_sink: GradientSink | None, sink: GradientSink) -> Tensor:
        ctx.site, ctx.x_sink, ctx.sink = site, x_sink, sink
        return x.view_as(x)

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        g = ctx.sink.joined(grads[0])
        values = g.values(grads[0].shape) if isinstance(g, Pooled) else g
        if ctx.x_sink is None or not ctx.x_sink.is_wanted:
            return ctx.site.rounded(values), None, None, None
        return sent_in_codes(ctx.site(values), ctx.x_sink), None, None, None


class ValueSite(nn.Module):
    """Quantises a value in the forward pass; the gradient passes unchanged (straight-through estimator)."""

    def __init__(self, spec: Quantizer, name: str, clock: Clock) -> None:
        super().__init__()
        self.site = Site(spec, name, clock)

    @uncompiled
    def forward(self, x: Tensor) -> Tensor:
        """The quantised value of ``x``, as float32."""
        return straight_through(self.site, x)


def straight_through(site: Site, x: Tensor) -> Tensor:
    """``x`` quantised at ``site``, as float32; the gradient passes unchanged."""
    return apply_function(_StraightThrough, x, site)


class _StraightThrough(torch.autograd.Function):
    """The quantised value forward, the gradient as it comes backward (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, site: Site) -> Tensor:
        return site.rounded(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grads[0], None


def site_for(spec: Quantizer | None, name: str, clock: Clock) -> Site | None:
    """A site, or None where the path is float."""
    return None if spec is None else Site(spec, name, clock)


def backward_site_for(spec: Quantizer | None, name: str, clock: Clock) -> BackwardSite | None:
    """A site of the backward pass, or None where the path is float."""
    return None if spec is None else BackwardSite(spec, name, clock)


def value_site_for(spec: Quantizer | None, name: str, clock: Clock) -> ValueSite | None:
    """A straight-through site, or None where the value stays float."""
    return None if spec is None else ValueSite(spec, name, clock)


def through(site: nn.Module | None, x: Tensor) -> Tensor:
    """``x`` through a site that may not be there."""
    return x if site is None else cast(Tensor, site(x))
