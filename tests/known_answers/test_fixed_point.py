"""Fixed point with stochastic rounding (Gupta, Agrawal, Gopalakrishnan, Narayanan 2015, arXiv:1502.02551, section 3):
its two roundings and its saturation, and training steps of a layer and of a residual network whose every data path is
in <IL, FL>, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arithmetics import both_arithmetics
from numpy.typing import NDArray
from residual_net import Reference, ResidualNet, digit_batches, logits_of, through, train_step, watched
from torch import Tensor, nn
from torch.nn.functional import conv2d
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.errors import InputError
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.clock import tensor_id
from qbench.optim import build_optimizer
from qbench.quant.formats import FixedPoint
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic
from qbench.train.settings import OptimizerSettings

Array = NDArray[np.float64]
METHOD = find_method("fixed_point")
FORMATS = [(2, 14), (6, 10), (4, 12), (2, 6), (8, 0), (1, 15)]


def rounded(x: Array, integer_bits: int, fraction_bits: int, draws: Array | None = None) -> Array:
    """Convert(x, <IL, FL>): saturate, else to the multiple of 2^-FL below x or the next, half up or at random."""
    step = 2.0**-fraction_bits
    low, high = -(2.0 ** (integer_bits - 1)), 2.0 ** (integer_bits - 1) - step
    below = np.floor(x / step)
    up = x / step - below >= 0.5 if draws is None else draws < x / step - below
    return np.clip((below + up) * step, low, high)


def sample(count: int) -> torch.Tensor:
    x = torch.randn(count, generator=torch.Generator().manual_seed(0))
    return torch.cat([x, x * 2.0**-10, x * 100, torch.tensor([0.0, -0.0, 2.0**-15, -(2.0**-15), 3.0, -3.0])])


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), FORMATS)
def test_round_to_nearest(integer_bits: int, fraction_bits: int) -> None:
    x = sample(4000)
    got = quantize(x, FixedPoint(integer_bits, fraction_bits), Key(0, 0, 0)).dequantize()
    assert np.array_equal(got.double().numpy(), rounded(x.double().numpy(), integer_bits, fraction_bits))


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), FORMATS)
def test_stochastic_rounding(integer_bits: int, fraction_bits: int) -> None:
    x, key = sample(4000), Key(1, 2, 3)
    got = quantize(x, FixedPoint(integer_bits, fraction_bits, "stochastic"), key).dequantize()
    expected = rounded(x.double().numpy(), integer_bits, fraction_bits, uniforms(len(x), key))
    assert np.array_equal(got.double().numpy(), expected)


@pytest.mark.parametrize(("integer_bits", "fraction_bits"), FORMATS)
def test_range_and_smallest_step(integer_bits: int, fraction_bits: int) -> None:
    """[-2^(IL-1), 2^(IL-1) - 2^-FL] in steps of 2^-FL."""
    ends = torch.tensor([-1e9, 1e9, 2.0**-fraction_bits])
    got = quantize(ends, FixedPoint(integer_bits, fraction_bits), Key(0, 0, 0)).dequantize().tolist()
    low, high, step = -(2.0 ** (integer_bits - 1)), 2.0 ** (integer_bits - 1) - 2.0**-fraction_bits, 2.0**-fraction_bits
    assert got == [low, high, min(step, high)]


def test_mean_of_a_million_draws() -> None:
    """3.3 in steps of 1: within 0.003, six standard errors."""
    draws = quantize(torch.full((1_000_000,), 3.3), FixedPoint(8, 0, "stochastic"), Key(5, 6, 7)).dequantize()
    assert float(draws.double().mean()) == pytest.approx(3.3, abs=0.003)
    assert draws.unique().tolist() == [3.0, 4.0]


def test_what_nearest_rounding_loses() -> None:
    """A step below half the grid spacing is lost to rounding to nearest, and taken with probability |dW| / spacing by
    stochastic rounding: here 0.2, within five standard errors of 65,536 draws."""
    for rounding, share in (("nearest", 0.0), ("stochastic", 0.2)):
        recipe = METHOD.build({"rounding": rounding, "fraction_bits": 6})
        converted = convert(nn.Sequential(nn.Linear(256, 256, bias=False)), recipe)
        layer = converted.model[0]  # type: ignore[index]
        optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="sgd", lr=0.1, momentum=0.0))
        before = layer.master.codes.clone()  # type: ignore[union-attr,operator]
        layer.weight.grad = torch.full((256, 256), 2.0 * 2.0**-6)  # type: ignore[union-attr]
        optimizer.step()
        moved = (layer.master.codes != before).float().mean()  # type: ignore[union-attr,operator]
        assert float(moved) == pytest.approx(share, abs=5 * (share * (1 - share) / 65_536) ** 0.5)


@both_arithmetics
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_training_of_a_layer(rounding: str, arithmetic: Arithmetic) -> None:
    """Five steps of one layer with a bias, bit for bit: output, input gradient, weight gradient, weights and bias, each
    converted once behind a sum at full width. The rates and gradients are multiples of powers of two, so that the
    bias's float32 step rounds nothing either."""
    word, out = (2, 8), (4, 6)
    options = {"integer_bits": 2, "fraction_bits": 8, "output_integer_bits": 4, "output_fraction_bits": 6}
    recipe = METHOD.build({"rounding": rounding, **options})
    torch.manual_seed(0)
    linear = nn.Linear(7, 5)
    with torch.no_grad():
        linear.weight.mul_(3)
    w, b = (rounded(p.detach().double().numpy(), *word) for p in (linear.weight, linear.bias))
    converted = convert(nn.Sequential(linear), recipe, seed=9, arithmetic=arithmetic)
    layer = converted.model[0]  # type: ignore[index]
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="sgd", lr=0.25, momentum=0.0))

    def draws(name: str, shape: tuple[int, ...], step: int) -> Array | None:
        if rounding == "nearest":
            return None
        return uniforms(shape, Key(9, tensor_id(name), step))

    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        converted.clock.step = step
        x = (torch.randn(6, 7, generator=generator) * 2).requires_grad_()
        upstream = torch.randint(-200, 201, (6, 5), generator=generator) / 512
        y = converted.model(x)
        y.backward(upstream)
        a = rounded(x.detach().double().numpy(), *out, draws("0/activation", (6, 7), step))
        output = rounded(a @ w.T + b, *out, draws("0/output", (6, 5), step))
        error = rounded(upstream.double().numpy(), *word, draws("0/error", (6, 5), step))
        gradient = rounded(error.T @ a, *word, draws("0/gradient", (5, 7), step))
        assert np.array_equal(y.detach().double().numpy(), output)
        assert x.grad is not None
        assert np.array_equal(x.grad.double().numpy(), error @ w)
        assert np.array_equal(layer.weight.grad.double().numpy(), gradient)  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
        w = rounded(w - 0.25 * gradient, *word, draws("0/update", (5, 7), step))
        moved = b - 0.25 * upstream.double().numpy().sum(0)
        b = rounded(moved, *word, draws("0.bias/update", (5,), step))
        assert np.array_equal(layer.master.dequantize().double().numpy(), w)  # type: ignore[union-attr,operator]
        assert np.array_equal(layer.bias.detach().double().numpy(), b)  # type: ignore[union-attr,operator]


# --- whole steps of a residual network

WORD, OUTPUT = (2, 14), (6, 10)
"""<IL, FL> of parameters, errors, gradients and updates, and of what layers compute and of activations."""

NOISE = 1e-6
"""Of a tensor's largest value, 17 of float32's roundings: how far a norm's results may lie from those in float64."""

SGD = OptimizerSettings(name="sgd", lr=0.1, momentum=0.9)


class FixedPointNet(Reference):
    """The network in float64: each tensor converted once, with the random bits of its place.

    Norms compute in float32 in the implementation, and what they give may be rounded the other way: a few codes in
    10^5, where it lies as near to the random number as their noise. There ``seen``, the implementation's values, serve
    for what follows; all others have to be equal.
    """

    def __init__(self, parameters: dict[str, Tensor], seen: dict[str, Tensor], seed: int) -> None:
        values = {name: p.double().numpy() for name, p in parameters.items()}
        self.parameters = {name: torch.from_numpy(rounded(v, *WORD)).requires_grad_() for name, v in values.items()}
        self.velocity = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.seen, self.seed, self.step = seen, seed, 0
        self.places: set[str] = set()
        self.count = self.differing = 0

    def convert(self, x: Tensor, word: tuple[int, int], place: str) -> Tensor:
        draws = uniforms(tuple(x.shape), Key(self.seed, tensor_id(place), self.step))
        value, seen = x.numpy(), self.seen[place].double().numpy()
        noise = NOISE * np.abs(value).max()
        assert (rounded(value - noise, *word, draws) <= seen).all(), (place, self.step)
        assert (seen <= rounded(value + noise, *word, draws)).all(), (place, self.step)
        self.places.add(place)
        self.count += seen.size
        self.differing += int((seen != rounded(value, *word, draws)).sum())
        return torch.from_numpy(seen)

    def forth(self, x: Tensor, place: str) -> Tensor:
        """A value of the forward pass; its gradient passes unchanged."""
        return through(x, forward=lambda value: self.convert(value, OUTPUT, place))

    def back(self, x: Tensor, place: str) -> Tensor:
        """``x``, whose gradient is converted."""
        return through(x, backward=lambda gradient: self.convert(gradient, WORD, place))

    def operands(self, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        return self.forth(x, f"{name}/activation"), self.back(self.parameters[f"{name}.weight"], f"{name}/gradient")

    def normalised(self, x: Tensor, name: str, stride: int) -> Tensor:
        a, w = self.operands(x, f"{name}.conv")
        y = self.back(conv2d(a, w, stride=stride, padding=w.shape[-1] // 2), f"{name}.conv/error")
        return self.back(self.norm(self.forth(y, f"{name}.conv/output"), f"{name}.norm"), f"{name}/norm_error")

    def end(self, y: Tensor, name: str, *, to_trunk: bool) -> Tensor:
        return self.forth(y, f"{name}/trunk") if to_trunk else self.back(y, f"{name}/branch_error")

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        gamma, beta = (self.parameters[f"{name}.{key}"].view(-1, 1, 1) for key in ("weight", "bias"))
        return gamma * (x - mean) / (variance + 1e-5).sqrt() + beta

    def branch(self, x: Tensor, name: str) -> Tensor:
        return self.back(x, f"{name}/branch_error")

    def classifier(self, x: Tensor, name: str) -> Tensor:
        a, w = self.operands(x, name)
        return self.forth(self.back(a @ w.t(), f"{name}/error") + self.parameters[f"{name}.bias"], f"{name}/output")

    @torch.no_grad()
    def update(self) -> None:
        """v <- 0.9 v + g, w <- Convert(w - 0.1 v)."""
        for name, p in self.parameters.items():
            self.velocity[name].mul_(0.9).add_(p.grad)
            p.copy_(self.convert(p - 0.1 * self.velocity[name], WORD, place_of_update(name, p)))
            p.grad = None


def place_of_update(name: str, parameter: Tensor) -> str:
    """Weights, which live in layers, are called after these."""
    return f"{name.removesuffix('.weight') if parameter.dim() > 1 else name}/update"


def stored_values(converted: Converted, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Place of an update to the values behind it."""
    layers, state = dict(converted.layers()), dict(converted.model.named_parameters())
    return {
        place_of_update(name, p): layers[name.removesuffix(".weight")].master.dequantize()  # type: ignore[operator,union-attr]
        if p.dim() > 1
        else state[name].detach()
        for name, p in parameters.items()
    }


def converted_net(arithmetic: Arithmetic) -> tuple[dict[str, Tensor], Converted, torch.optim.Optimizer]:
    """The float network's parameters, what becomes of it, and its optimiser."""
    torch.manual_seed(0)
    model = ResidualNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    recipe = METHOD.build({})
    converted = convert(model, recipe, seed=3, arithmetic=arithmetic)
    return parameters, converted, build_optimizer(converted, recipe, SGD)


@both_arithmetics
def test_training_of_a_residual_network(arithmetic: Arithmetic) -> None:
    """Four steps on digits: the values at every place where a tensor is rounded, forwards, backwards and in the update,
    and no place more. A twin that nobody watches, and which makes no codes that are not needed, gives the same."""
    parameters, converted, optimizer = converted_net(arithmetic)
    _, *twin = converted_net(arithmetic)
    seen = watched(converted)
    reference = FixedPointNet(parameters, seen, seed=3)
    for step, images, labels in digit_batches(4):
        logits, gradient = train_step(converted, optimizer, step, images, labels)
        assert torch.equal(logits, train_step(*twin, step, images, labels)[0])
        seen.update(stored_values(converted, parameters))
        reference.step = step
        expected = logits_of(reference, images.double())
        assert torch.equal(logits.double(), expected)
        expected.backward(gradient.double())
        reference.update()
    assert reference.places == {place for place in seen if not place.endswith("/weight")}
    assert reference.differing < 1e-4 * reference.count


def test_words_longer_than_16_bits_are_refused() -> None:
    with pytest.raises(InputError, match="at most 16 bits, not 17"):
        METHOD.build({"integer_bits": 2, "fraction_bits": 15})
    with pytest.raises(InputError, match="at most 16 bits, not 18"):
        METHOD.build({"output_integer_bits": 8})
