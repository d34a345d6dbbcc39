"""The observed step: what probes are shown of a training, once per epoch, without a trace in it.

At the end of an epoch one more training step is made, the same code as every other, on a batch that never changes (the
first of the training split, without augmentation), at the clock of the epoch's last step: its learning rate and, for
each tensor, the key of its random bits. Every quantiser shows what it gives beside what it was given, in integer and
simulated arithmetic alike; blocks that keep codes alone compute the exact tensor for this. The same batch goes through
a twin of the network without any number format, with the same stored weights, for the exact weight gradient. Then
weights, statistics, optimiser, clock and generators are put back bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from qbench.cell import ProbeSeries
from qbench.data import BatchLoader
from qbench.kernels.random import Key
from qbench.nn.coded import CodedWeight
from qbench.nn.layers import QuantizedLayer
from qbench.nn.site import Site, nearest_version
from qbench.optim.coded import CodedOptimizer
from qbench.optim.on_grid import OnGridOptimizer
from qbench.optim.shift_step import ShiftStepOptimizer
from qbench.optim.wanted import stored_value, wanted_change
from qbench.probes import build_probes
from qbench.probes.base import Pair, Values, Weight, WeightStep
from qbench.probes.grid import spacing
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import quantize
from qbench.train.build import BuiltCell, copy_weights, exact_twin
from qbench.train.device import kept_generators

if TYPE_CHECKING:
    from qbench.quant.formats import Quantizer
    from qbench.train.step import TrainStep

DIGITS = 7
"""Significant digits of a recorded value: what a float32 has."""

Place = tuple[str, str, str, str]
"""Probe, quantity, layer, path."""

_NO_KEY = Key(0, 0, 0)
"""For rounding to nearest, which draws no random bits."""

ROUNDED_ONCE = (OnGridOptimizer, ShiftStepOptimizer)
"""Rules whose stored weight is the wanted one, rounded once onto the grid of the stored weight."""


class Observer:
    """Shows observed steps of a built cell to its probes and keeps what they say."""

    def __init__(self, built: BuiltCell) -> None:
        self._built = built
        self._probes = build_probes(built.cell.probes)
        self._batch = _first_batch(built)
        self._twin = exact_twin(built)
        self._layers = [(name, layer) for name, layer in built.converted.layers() if _is_trained(layer.weight)]
        self._series: dict[Place, list[float | None]] = {}
        self._epochs = 0
        self._shown: set[Site] = set()

    def begin(self) -> None:
        """Before the first training step."""
        for weight in self._weights():
            for probe in self._probes.values():
                probe.begin(weight)

    def observe(self, train_step: TrainStep, step: int) -> None:
        """At the end of an epoch, whose last optimiser step was ``step``."""
        self._epochs += 1
        for weight in self._weights():
            for name, probe in self._probes.items():
                self._note(name, weight.layer, weight.path, probe.weight(weight))
        with unchanged(self._built):
            self._step(train_step.forked(), step)

    def series(self) -> tuple[ProbeSeries, ...]:
        """All that was observed so far."""
        return tuple(
            ProbeSeries(probe=probe, quantity=quantity, layer=layer, path=path, values=tuple(values))
            for (probe, quantity, layer, path), values in self._series.items()
        )

    def _step(self, train_step: TrainStep, step: int) -> None:
        exact = self._exact_gradients(step)
        self._shown.clear()
        for site in self._built.converted.sites():
            site.watcher = self._watch
        loss = train_step.forward(step, *self._batch)
        train_step.backward(loss)
        train_step.unscale()
        befores = [self._before(name, layer, exact[name]) for name, layer in self._layers]
        train_step.apply()
        for before in befores:
            self._show_update(before)

    def _exact_gradients(self, step: int) -> dict[str, Tensor]:
        """The gradient of each layer's weight in the twin."""
        twin, (images, labels) = self._twin, self._batch
        copy_weights(self._built.converted, twin)
        twin.clock.step = step
        twin.model.zero_grad(set_to_none=True)
        smoothing = self._built.cell.train.label_smoothing
        loss = functional.cross_entropy(twin.model(images), labels, label_smoothing=smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        layers = dict(twin.layers())
        return {name: _gradient_of(layers[name]) for name, _ in self._layers}

    def _watch(self, site: Site, q: QTensor, exact: Tensor) -> None:
        if site in self._shown:
            return  # a norm may compute a tensor again for its backward pass: the same one
        self._shown.add(site)
        layer, _, path = site.name.rpartition("/")
        steps_off = (lambda: _off_nearest(q, exact)) if site.format.is_stochastic else None
        self._show(Pair(layer, path, q.dequantize(), exact.detach(), q, steps_off))

    def _before(self, name: str, layer: nn.Module, exact_gradient: Tensor) -> _Before:
        gradient = _gradient_of(layer)
        self._show(Pair(name, "loss_gradient", gradient, exact_gradient))
        wanted = wanted_change(self._built.optimizer, layer)
        return _Before(name, layer, gradient, exact_gradient, wanted, stored_value(layer).clone())

    def _show_update(self, before: _Before) -> None:
        after = stored_value(before.layer)
        is_rounded_once = _master(before.layer) is not None and isinstance(self._built.optimizer, ROUNDED_ONCE)
        steps_off = (lambda: _off_wanted(before)) if is_rounded_once else None
        change = after.double() - before.stored.double()
        self._show(Pair(before.name, "update", change, before.wanted, steps_off=steps_off))
        step = WeightStep(before.name, before.gradient, before.exact_gradient, before.wanted, after == before.stored)
        for name, probe in self._probes.items():
            self._note(name, before.name, "update", probe.step(step))

    def _show(self, pair: Pair) -> None:
        for name, probe in self._probes.items():
            self._note(name, pair.layer, pair.path, probe.pair(pair))

    def _weights(self) -> Iterator[Weight]:
        for name, layer in self._layers:
            yield from weights_of(name, layer)

    def _note(self, probe: str, layer: str, path: str, values: Values) -> None:
        for quantity, value in values.items():
            series = self._series.setdefault((probe, quantity, layer, path), [None] * (self._epochs - 1))
            assert len(series) == self._epochs - 1, f"{layer}/{path} was shown twice in one step"
            series.append(None if value is None else rounded(value))


@dataclass(frozen=True, eq=False)
class _Before:
    """A layer between the backward pass and the update; see :class:`WeightStep`. stored: the weight, float32."""

    name: str
    layer: nn.Module
    gradient: Tensor
    exact_gradient: Tensor
    wanted: Tensor
    stored: Tensor


def rounded(value: float) -> float:
    """``value`` to the digits that are recorded."""
    return float(f"{value:.{DIGITS}g}")


def weights_of(name: str, layer: nn.Module) -> Iterator[Weight]:
    """A layer's weight as its product takes it, rounded to nearest, and as it is stored where that is finer."""
    master, site = _master(layer), layer.weight_site if isinstance(layer, QuantizedLayer) else None
    stored = stored_value(layer)
    used = None if site is None else nearest_version(site.spec)
    if site is None or used is None:
        yield Weight(name, "weight", stored, stored)
        return
    if master is not None and master.format == used:
        yield Weight(name, "weight", master.codes, stored)
        return
    q = quantize(stored, used, _NO_KEY)
    yield Weight(name, "weight", q.codes, q.dequantize())
    if master is not None:
        yield Weight(name, "stored", master.codes, stored)


@contextmanager
def unchanged(built: BuiltCell) -> Iterator[None]:
    """Whatever happens inside, the cell is afterwards what it was: parameters, buffers, gradients, the optimiser's
    state and rates, what sites have noted, the clock, and PyTorch's generators."""
    tensors = [(tensor, tensor.detach().clone()) for tensor in built.state()]
    gradients = [(parameter, parameter.grad) for parameter in built.model.parameters()]
    sites = [(site, replace(site.seen)) for site in built.converted.sites()]
    clock, optimizer = built.converted.clock, built.optimizer
    noted = dict(vars(clock))
    rates = [(group, group["lr"]) for group in optimizer.param_groups]
    state = {key: copy.deepcopy(value) for key, value in optimizer.state.items()}
    with kept_generators(built.device), _each_batch(optimizer):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, kept in tensors:
                    tensor.copy_(kept)
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for site, seen in sites:
                vars(site.seen).update(vars(seen))
                site.watcher = None
            vars(clock).update(noted)
            for group, rate in rates:
                group["lr"] = rate
            optimizer.state.clear()
            optimizer.state.update(state)


@contextmanager
def _each_batch(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """A rule that gathers the gradients of several batches makes its update with the one that is observed."""
    if not isinstance(optimizer, CodedOptimizer):
        yield
        return
    batches, optimizer.batches = optimizer.batches, 1
    try:
        yield
    finally:
        optimizer.batches = batches


def _first_batch(built: BuiltCell) -> tuple[Tensor, Tensor]:
    batch = next(iter(BatchLoader.iterate(built.dataset.train, batch_size=built.plan.batch_size, max_batches=1)))
    return built.to_device(batch.images, batch.labels)


def _is_trained(weight: object) -> bool:
    """Whether a layer's weight is what the optimiser changes: one that a transform computes of others
    (``torch.nn.utils.parametrize``) has no gradient of its own."""
    return isinstance(weight, nn.Parameter) and weight.requires_grad


def _gradient_of(layer: nn.Module) -> Tensor:
    gradient = layer.weight.grad
    assert isinstance(gradient, Tensor), "every layer's weight takes part in the loss"
    return gradient


def _master(layer: nn.Module) -> QTensor | None:
    return layer.master if isinstance(layer, CodedWeight) else None


def _off_nearest(q: QTensor, exact: Tensor) -> Tensor:
    """Steps between the codes of ``q`` and those that the same format gives when it rounds to nearest."""
    return _steps_between(q.codes, quantize(exact, nearest_version(q.format), _NO_KEY).codes, q.format)


def _off_wanted(before: _Before) -> Tensor:
    """Steps between the stored codes after the update and those nearest to the weight that was wanted."""
    master = _master(before.layer)
    assert master is not None
    wanted = (before.stored.double() + before.wanted).float()
    nearest = quantize(wanted, nearest_version(master.format), _NO_KEY)
    return _steps_between(master.codes, nearest.codes, master.format)


def _steps_between(a: Tensor, b: Tensor, spec: Quantizer) -> Tensor:
    return (a.long() - b.long()).abs() // spacing(spec)
