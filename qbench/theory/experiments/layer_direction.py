"""The cosine between the tensors of a trained network and their quantised copies, by bits (Banner et al. 2018, section
5): weights and activations forward, errors (gradients of layer outputs) backward, beside the bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Interval
from torch import Tensor

from qbench.cell import Cell
from qbench.data import BatchLoader
from qbench.kernels.random import Key
from qbench.nn.clock import tensor_id
from qbench.options import PositiveInt
from qbench.quant.formats import Affine, Rounding
from qbench.quant.quantize import quantize
from qbench.theory.directions import cosine, largest_bound, magnitude_quantizer, right_triangle
from qbench.theory.findings import Answer, Estimate, Findings, Panel, Picture, Series, beside, bounded, equals
from qbench.theory.networks import adam, cell, epochs, signals
from qbench.theory.progress import Progress

Bits = Annotated[int, Interval(ge=2, le=16)]

PUBLISHED = {
    2: (0.8187, 0.2001), 4: (0.9913, 0.7422), 6: (0.9995, 0.8820), 7: (0.9999, 0.9479), 8: (0.9999, 0.9822),
    9: (1.0, 0.9953), 10: (1.0, 0.9989),
}  # fmt: skip
"""Forward and backward cosine, read from the vector graphics of figure 2 (left)."""

FIGURE = "Banner et al. 2018, Fig. 2: ResNet-18 on CIFAR-10, another network and data set"
BOUND = "Banner et al. 2018, Eq. 11, at each layer's own largest weight; for noise-like rounding errors"
NOISE = "1 / sqrt(1 + D^2 / 12 s^2), mean over layers"
GRADIENTS = "Banner et al. 2018: gradients lose direction first"

_FEW_BITS = 6
"""With more bits both cosines are next to 1."""

_FINE_STEP = 0.7
_NOISE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Cosines:
    """Cosines of one kind of tensor at one width, a value per layer."""

    layers: tuple[float, ...]

    @property
    def mean(self) -> Estimate:
        """The mean over layers; the network's layers are all there is, so it has no sampling error."""
        return Estimate(math.fsum(self.layers) / len(self.layers))

    @property
    def deviation(self) -> float:
        """The standard deviation over layers."""
        mean = self.mean.value
        return math.sqrt(math.fsum((one - mean) ** 2 for one in self.layers) / len(self.layers))


def layer_direction(
    *,
    seed: int,
    progress: Progress,
    bits: tuple[Bits, ...] = (2, 3, 4, 5, 6, 8, 10),
    model: str = "resnet8",
    dataset: str = "digits",
    training_epochs: PositiveInt = 6,
    batch_size: PositiveInt = 64,
    lr: Annotated[float, Gt(0)] = 0.01,
    error_rounding: Rounding = "nearest",
) -> Findings:
    """Cosines of the quantised weights, activations and errors of a trained float network.

    bits: of affine quantisers, min to max of each tensor. model, dataset: trained for training_epochs in batches of
    batch_size with Adam at lr. error_rounding: of the errors; stochastic as in training, or to nearest as in the
    analysis.
    """
    train = adam(training_epochs, batch_size, lr)
    tensors = _trained(cell("fp32", {}, model=model, dataset=dataset, train=train, seed=seed), progress)
    roundings: dict[str, Rounding] = {"weight": "nearest", "activation": "nearest", "error": error_rounding}
    found = {
        (kind, width): _cosines(layers, width, roundings[kind], kind)
        for kind, layers in tensors.items()
        for width in bits
    }
    text = f"{model} on {dataset}"
    answers = [answer for width in bits for answer in _answers(width, text, found, tensors["weight"])]
    return Findings(answers=tuple(answers), pictures=(_picture(bits, found, tensors["weight"], text),))


def _trained(described: Cell, progress: Progress) -> dict[str, list[Tensor]]:
    """Train, then the tensors of one more batch."""
    for run in epochs(described):
        progress(run.epoch / (described.train.epochs + 1))
    batches = BatchLoader().iterate(
        run.built.dataset.train, batch_size=described.train.batch_size, seed=described.seed,
        epoch=described.train.epochs, shuffle=True, augment=described.train.augment, max_batches=1,
    )  # fmt: skip
    batch = next(iter(batches))
    return signals(run, batch.images, batch.labels)


def _cosines(layers: Sequence[Tensor], bits: int, rounding: Rounding, kind: str) -> Cosines:
    found = []
    for index, x in enumerate(layers):
        q = quantize(x, Affine(bits, rounding, "min_offset"), Key(0, tensor_id(f"direction/{kind}/{index}"), bits))
        found.append(cosine(x, q.dequantize()).value)
    return Cosines(tuple(found))


def _answers(
    bits: int, where: str, found: Mapping[tuple[str, int], Cosines], weights: Sequence[Tensor]
) -> Iterator[Answer]:
    text = f"{where}, {bits} bits"
    forward, backward = PUBLISHED.get(bits, (None, None))
    yield beside("cosine, weights", text, found["weight", bits].mean, forward, f"{FIGURE}, forward")
    yield beside("cosine, activations", text, found["activation", bits].mean, forward, f"{FIGURE}, forward")
    yield beside("cosine, errors", text, found["error", bits].mean, backward, f"{FIGURE}, backward")
    yield from _noise_answer(bits, text, found["weight", bits].mean, weights)
    margin = min(_margin(x, bits) for x in weights)
    yield bounded("cosine less bound, smallest of all layers", text, Estimate(margin), "at least", 0.0, BOUND)
    if bits <= _FEW_BITS:
        ahead = Estimate(found["weight", bits].mean.value - found["error", bits].mean.value)
        yield bounded("cosine, weights less errors", text, ahead, "at least", 0.0, GRADIENTS)


def _noise_answer(bits: int, text: str, measured: Estimate, weights: Sequence[Tensor]) -> Iterator[Answer]:
    steps = [float(x.max() - x.min()) / (2**bits - 1) / _rms(x) for x in weights]
    if max(steps) <= _FINE_STEP:
        known = math.fsum(right_triangle(step) for step in steps) / len(steps)
        yield equals(
            "cosine, weights", f"{text}, noise", measured, known, NOISE, extra=_NOISE_TOLERANCE * (1 - known),
            because="(10 % of 1 - cosine) as layers are small",
        )  # fmt: skip


def _margin(x: Tensor, bits: int) -> float:
    """The cosine of the analysed quantiser, whose M does not count the sign, less its bound."""
    largest = x.abs().max()
    q = magnitude_quantizer(x, bits - 1, largest).dequantize()
    return cosine(x, q).value - _bound(x, bits)


def _bound(x: Tensor, bits: int) -> float:
    return largest_bound(bits - 1, float(x.abs().max()), _rms(x))


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def _picture(
    bits: Sequence[int], found: Mapping[tuple[str, int], Cosines], weights: Sequence[Tensor], where: str
) -> Picture:
    names = {"weight": "weights", "activation": "activations", "error": "errors"}
    series = [
        Series(
            label=label, role=kind, style="points", x=tuple(bits),
            y=tuple(found[kind, width].mean.value for width in bits),
            error=tuple(found[kind, width].deviation for width in bits),
        )
        for kind, label in names.items()
    ]  # fmt: skip
    bound = [math.fsum(_bound(x, width) for x in weights) / len(weights) for width in bits]
    series.append(Series(label="bound for the weights, Eq. 11", role="known", x=tuple(bits), y=tuple(bound)))
    for column, label in enumerate(("forward", "backward")):
        series.append(
            Series(
                label=f"ResNet-18 on CIFAR-10, {label} (Fig. 2)", role=("weight", "error")[column], style="dashed",
                x=tuple(PUBLISHED), y=tuple(pair[column] for pair in PUBLISHED.values()),
            )
        )  # fmt: skip
    return Picture(
        name="layer-direction",
        title=f"{where}: cosine between tensors and their quantised copies",
        note="points: mean and sd over layers; dashed: Banner et al. 2018, another network and data set",
        columns=1,
        panels=(Panel(x_label="bits", y_label="cosine", series=tuple(series)),),
    )
