"""WAGE (Wu, Li, Chen, Shi 2018, arXiv:1802.04680, cited by equation, and the authors' code on GitHub,
boluoweifenda/WAGE): values of shifts, layer scales and quantisers, and whole training steps, re-derived in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from arithmetics import both_arithmetics
from numpy.typing import NDArray
from residual_net import Reference, ResidualNet, digit_batches, logits_of, through, train_step
from torch import Tensor, nn
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.kernels.reference.encode import power_of_two
from qbench.nn import Converted, convert
from qbench.nn.blocks import ConvNormAct, LinearNormAct
from qbench.nn.clock import tensor_id
from qbench.nn.norms.layer_scale import layer_scale, weight_limit
from qbench.optim import build_optimizer, optimizer_bytes
from qbench.optim.shift_step import shift_rate, start_limit, uniform_by_rank
from qbench.quant.formats import Direct, Shift
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic, LayerScale, ShiftStep
from qbench.train.settings import OptimizerSettings

Array = NDArray[np.float64]
WAGE = find_method("wage")
SGD = OptimizerSettings(name="sgd", lr=0.1, momentum=0.0)

# --- the paper's functions in float64


def sigma(bits: int) -> float:
    return 2.0 ** (1 - bits)


def shift(x: float) -> float:
    return 2.0 ** round(math.log2(x))


def q(x: Array, bits: int) -> Array:
    """Eq. 3, rounding half to even as TensorFlow does."""
    return np.clip(sigma(bits) * np.round(x / sigma(bits)), -1 + sigma(bits), 1 - sigma(bits))


def q_error(e: Array, bits: int) -> Array:
    """Eq. 9: never scaled back."""
    largest = np.abs(e).max()
    return q(e / shift(largest), bits) if largest else e


def update(w: Array, g: Array, eta: float, bits: int, limit: float, draws: Array) -> Array:
    """Eq. 10 to 12. The Bernoulli variable is one for a draw below the fraction of g_s above its floor: in law
    sgn(g_s) (floor|g_s| + Bernoulli(|g_s| - floor|g_s|))."""
    largest = np.abs(g).max()
    scaled = eta * g / shift(largest) if largest else g
    step = np.floor(scaled) + (draws < scaled - np.floor(scaled))
    return np.clip(w - sigma(bits) * step, -limit, limit)


# --- values

SHIFTS = [(1.0, 1), (1.4, 1), (1.5, 2), (0.7, 0.5), (0.75, 1), (3.0, 4), (1e-4, 2.0**-13), (10.39, 8), (27.7, 32)]


@pytest.mark.parametrize(("x", "expected"), SHIFTS)
def test_shift(x: float, expected: float) -> None:
    """Section 3.1, Eq. 4."""
    assert shift(x) == expected
    assert float(power_of_two(torch.tensor(x))) == expected
    assert shift_rate(x) == expected


VGG7 = [(3, 128, 3), (128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 512, 3), (512, 512, 3), (8192, 1024, 1),
        (1024, 10, 1)]  # fmt: skip
"""Layers of the net for CIFAR-10 (section 4.1): channels in, channels out, kernel."""

PAPER_SCALES = [2, 8, 8, 16, 16, 16, 32, 8]  # Eq. 7 with the paper's limit
CODE_SCALES = [2, 16, 16, 16, 16, 32, 32, 16]  # the log in the authors' repository


@pytest.mark.parametrize(("numerator", "scales"), [(6.0, PAPER_SCALES), (3.0, CODE_SCALES)], ids=["paper", "code"])
def test_layer_scales_of_the_authors_net(numerator: float, scales: list[int]) -> None:
    weights = [torch.empty(out, inputs, k, k) for inputs, out, k in VGG7]
    assert [layer_scale(weight, LayerScale(numerator)) for weight in weights] == scales


def test_initial_limits() -> None:
    """Eq. 5: L = max(sqrt(6 / n_in), 1.5 sigma(2)), which is 0.75 but for the narrowest layers."""
    for (inputs, out, k), numerator in zip(VGG7 * 2, [6.0] * 8 + [3.0] * 8, strict=True):
        weight = torch.empty(out, inputs, k, k)
        assert weight_limit(weight, numerator) == pytest.approx(math.sqrt(numerator / (inputs * k * k)))
        assert start_limit(weight, ShiftStep(numerator=numerator)) == 0.75
    assert start_limit(torch.empty(4, 1, 3, 3), ShiftStep()) == pytest.approx(math.sqrt(6 / 9))


def test_ternary_weights_start_with_equal_probabilities() -> None:
    """Section 4: beta = 1.5 gives the three values of W_q the same probability."""
    w = uniform_by_rank(torch.randn(300, 100, generator=torch.Generator().manual_seed(0)), 0.75)
    values, counts = quantize(w, Direct(2, 0.5), Key(0, 0, 0)).dequantize().unique(return_counts=True)
    assert values.tolist() == [-0.5, 0.0, 0.5]
    assert counts.tolist() == [10_000, 10_000, 10_000]


def test_start_keeps_the_order_of_the_shared_weights() -> None:
    w = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    uniform = uniform_by_rank(w, 0.75)
    assert torch.equal(uniform.flatten().argsort(), w.flatten().argsort())
    expected = 0.75 * ((2 * np.arange(1200) + 1) / 1200 - 1)
    assert np.allclose(uniform.flatten().sort().values.numpy(), expected, rtol=0, atol=1e-7)


def test_loaded_float_weights_are_not_started_anew() -> None:
    """Without a grid of stored weights they are parameters, whose state may be loaded before the optimiser is made."""
    recipe = find_method("wage").build({"gradient_bits": 32})
    state = convert(nn.Sequential(nn.Linear(40, 30)), recipe).model.state_dict()
    converted = convert(nn.Sequential(nn.Linear(40, 30)), recipe)
    converted.model.load_state_dict(state)
    build_optimizer(converted, recipe, OptimizerSettings(lr=0.1))
    assert all(torch.equal(value, state[name]) for name, value in converted.model.state_dict().items())


# --- quantisers against the formulas


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_quantiser_of_weights_and_activations(bits: int) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(bits)) * 0.7
    got = quantize(x, Direct(bits, 1 - sigma(bits)), Key(0, 0, 0)).dequantize()
    assert np.array_equal(got.numpy(), q(x.double().numpy(), bits))


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1.0, 30.0])
def test_quantiser_of_errors(bits: int, scale: float) -> None:
    """Eq. 9 up to the power of two that stays as a scale."""
    e = torch.randn(5000, generator=torch.Generator().manual_seed(bits)) * scale
    got = quantize(e, Shift(bits), Key(0, 0, 0)).dequantize()
    kept = shift(float(e.double().abs().max()))
    assert np.array_equal(got.double().numpy() / kept, q_error(e.double().numpy(), bits))


def linear(variant: str = "paper", **options: object) -> tuple[Converted, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    recipe = WAGE.build({"variant": variant, **options})
    converted = convert(nn.Sequential(nn.Linear(60, 50, bias=False)), recipe, seed=3)
    optimizer = build_optimizer(converted, recipe, SGD)
    return converted, converted.model[0], optimizer  # type: ignore[index]


STARTS = {"paper": (8, 127 / 128), "code": (2, 0.5)}
"""Grid of the initial weights, and where stored ones are clipped: the paper's Eq. 12, or the code's weight range."""


@pytest.mark.parametrize("variant", STARTS)
def test_update_is_that_of_the_paper(variant: str) -> None:
    """Eq. 10 to 12 over steps with rates 8, 4, 1 and 1/4 and gradients of any magnitude, bit for bit."""
    converted, layer, optimizer = linear(variant)
    start_bits, limit = STARTS[variant]
    torch.manual_seed(0)
    shared = nn.Linear(60, 50, bias=False).weight.detach()
    w = np.clip(q(uniform_by_rank(shared, 0.75).double().numpy(), start_bits), -limit, limit)
    assert np.array_equal(layer.master.dequantize().numpy(), w)  # type: ignore[union-attr,operator]
    generator = torch.Generator().manual_seed(1)
    for step in range(24):
        factor = (1.0, 0.5, 0.125, 1 / 32)[step // 6]
        converted.clock.step = step
        g = torch.randn(50, 60, generator=generator) * 10.0 ** (step % 6 - 5)
        layer.weight.grad = g.clone()  # type: ignore[union-attr]
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["base_lr"] * factor
        optimizer.step()
        draws = uniforms((50, 60), Key(3, tensor_id("0/update"), step))
        w = update(w, g.double().numpy(), 8 * factor, 8, limit, draws)
        assert np.array_equal(layer.master.dequantize().double().numpy(), w)  # type: ignore[union-attr,operator]


def test_largest_step() -> None:
    """|g| / Shift(max|g|) <= sqrt(2): at most ceil(8 sqrt(2)) = 12 units of 2^-7, and ternary with a rate of 1/2."""
    converted, layer, optimizer = linear()
    before = layer.master.codes.clone().int()  # type: ignore[union-attr,operator]
    layer.weight.grad = torch.full((50, 60), 1.4142)  # type: ignore[union-attr]
    optimizer.step()
    moved = before - layer.master.codes.int()  # type: ignore[union-attr,operator]
    assert moved[before > -115].unique().tolist() == [11, 12]
    converted.clock.step = 1
    optimizer.param_groups[0]["lr"] = 0.5
    before = layer.master.codes.clone().int()  # type: ignore[union-attr,operator]
    layer.weight.grad = torch.randn(50, 60)  # type: ignore[union-attr]
    optimizer.step()
    assert set((before - layer.master.codes.int()).unique().tolist()) <= {-1, 0, 1}  # type: ignore[union-attr,operator]


def test_zero_gradient_moves_nothing_and_a_bad_one_is_noticed() -> None:
    _, layer, optimizer = linear()
    before = layer.master.dequantize()  # type: ignore[union-attr,operator]
    layer.weight.grad = torch.zeros(50, 60)  # type: ignore[union-attr]
    optimizer.step()
    assert torch.equal(layer.master.dequantize(), before)  # type: ignore[union-attr,operator]
    layer.weight.grad[3, 4] = torch.inf  # type: ignore[union-attr,index,operator]
    optimizer.step()
    assert layer.master.dequantize().isnan().all()  # type: ignore[union-attr,operator]


def test_memory_is_that_of_the_stored_weights() -> None:
    """Section 3.4: no momentum; k_G bits per weight while training, k_W afterwards."""
    converted, layer, optimizer = linear()
    layer.weight.grad = torch.randn(50, 60)  # type: ignore[union-attr]
    optimizer.step()
    assert optimizer_bytes(optimizer, converted) == 3000
    assert converted.model_bytes() == 3000 * 2 // 8 + 4


# --- whole steps of a chain of layers


class Chain(nn.Module):
    """Two convolutions and two linear layers without a bias, as in the authors' net: the paper's order of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNormAct(2, 6, 3)
        self.second = ConvNormAct(6, 8, 3, stride=2)
        self.third = LinearNormAct(8 * 9, 12)
        self.last = nn.Linear(12, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.third(self.second(self.first(x)).permute(0, 2, 3, 1).flatten(1)))
        return logits


class WageChain:
    """The same net in float64 by the paper's formulas, errors never scaled back. weights: name to stored values."""

    STRIDES = (1, 2)
    NAMES = ("first.conv", "second.conv", "third.linear", "last")

    def __init__(self, weights: dict[str, Array], alphas: list[float], seed: int) -> None:
        self.weights = weights
        self.alphas = alphas
        self.seed = seed

    def step(self, x: Array, upstream: Array, eta: float, number: int) -> Array:
        """One training step; the logits before it. upstream: the loss's gradient at the logits."""
        w = {name: torch.from_numpy(q(value, 2)).requires_grad_() for name, value in self.weights.items()}
        activations, masks = [torch.from_numpy(x)], []
        for place, name in enumerate(self.NAMES):
            a = activations[-1].detach().requires_grad_()
            activations[-1] = a
            y = self._product(a, w[name], place) / self.alphas[place]
            if place == 3:
                logits = y
                break
            rectified = y.relu()
            clipped = rectified.clamp(max=1 - sigma(8))
            masks.append((y > 0, rectified <= 1 - sigma(8)))
            value = torch.from_numpy(q(clipped.detach().numpy(), 8))
            activations.append(value if place != 1 else value.permute(0, 2, 3, 1).flatten(1))
        gradients: dict[str, Array] = {}
        error = upstream
        for place in reversed(range(4)):
            name = self.NAMES[place]
            if place < 3:
                positive, inside = (m.numpy() for m in masks[place])
                error = q_error(error * inside, 8) * positive
            else:
                error = q_error(error, 8)
            a = activations[place]
            y = self._product(a, w[name], place)
            grad_a, grad_w = torch.autograd.grad(y, (a, w[name]), torch.from_numpy(error))
            gradients[name] = grad_w.numpy()
            error = grad_a.numpy()
            if place == 2:
                error = error.reshape(-1, 3, 3, 8).transpose(0, 3, 1, 2)
        for name, gradient in gradients.items():
            draws = uniforms(gradient.shape, Key(self.seed, tensor_id(f"{name}/update"), number))
            self.weights[name] = update(self.weights[name], gradient, eta, 8, 1 - sigma(8), draws)
        result: Array = logits.detach().numpy()
        return result

    def _product(self, a: Tensor, w: Tensor, place: int) -> Tensor:
        if place < 2:
            return nn.functional.conv2d(a, w, stride=self.STRIDES[place], padding=1)
        return a @ w.t()


@both_arithmetics
def test_training_of_a_chain_is_that_of_the_paper(arithmetic: Arithmetic) -> None:
    """Twelve steps, bit for bit: logits, and the stored weights of every layer after each step. Keeping the errors'
    power of two, as the implementation does, is not visible in a chain of layers."""
    torch.manual_seed(4)
    recipe = WAGE.build({})
    model = Chain().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    converted = convert(model, recipe, seed=7, arithmetic=arithmetic)
    optimizer = build_optimizer(converted, recipe, SGD)
    layers = {name: layer for name, layer in converted.layers()}  # noqa: C416
    weights = {name: layer.master.dequantize().double().numpy() for name, layer in layers.items()}  # type: ignore[union-attr,operator]
    alphas = [layer_scale(layer.weight, LayerScale()) for layer in layers.values()]  # type: ignore[arg-type]
    assert alphas == [1, 2, 2, 1]  # fan-ins of 18, 54, 72 and 12
    reference = WageChain(weights, alphas, 7)
    generator = torch.Generator().manual_seed(5)
    for number in range(12):
        converted.clock.step = number
        x = torch.randn(6, 2, 6, 6, generator=generator).mul(32).round().clamp(-127, 127) / 32
        upstream = torch.randn(6, 5, generator=generator) * 1e-3
        optimizer.param_groups[0]["lr"] = 8.0 / (1 + number // 6 * 7)
        logits = converted.model(x)
        logits.backward(upstream)
        expected = reference.step(x.double().numpy(), upstream.double().numpy(), 8.0 / (1 + number // 6 * 7), number)
        assert np.array_equal(logits.detach().numpy(), expected), number
        optimizer.step()
        optimizer.zero_grad()
        for name, layer in layers.items():
            stored = layer.master.dequantize().double().numpy()  # type: ignore[union-attr,operator]
            assert np.array_equal(stored, reference.weights[name]), (number, name)


# --- whole steps of a residual network


class WageNet(Reference):
    """The residual network in float64. Around each sum of products, as in the authors' code: divide by alpha, add the
    trunk, ReLU, Q_A; on the way back the clip's derivative, Q_E, the ReLU's. Errors keep the power of two that Eq. 9
    drops, as those of a branch and its trunk add up."""

    def __init__(self, stored: dict[str, Array], seed: int) -> None:
        self.stored, self.seed = stored, seed
        self.weights: dict[str, Tensor] = {}

    def start(self) -> None:
        """Weights for the products of a new step."""
        self.weights = {name: torch.from_numpy(q(w, 2)).requires_grad_() for name, w in self.stored.items()}

    def activation(self, x: Tensor) -> Tensor:
        """Q_A, with the clip's derivative alone."""
        return through(x.clamp(-1 + sigma(8), 1 - sigma(8)), lambda value: torch.from_numpy(q(value.numpy(), 8)))

    def error(self, x: Tensor) -> Tensor:
        """``x``; Q_E on the way back."""

        def quantised(e: Tensor) -> Tensor:
            return torch.from_numpy(q_error(e.numpy(), 8)) * shift(float(e.abs().max()))

        return through(x, backward=quantised)

    def scaled(self, product: Tensor, w: Tensor) -> Tensor:
        """Eq. 7: over alpha = max(Shift(1.5 sigma(2) / sqrt(6 / fan-in)), 1)."""
        return product / max(shift(1.5 * sigma(2) / math.sqrt(6 / w[0].numel())), 1)

    def normalised(self, x: Tensor, name: str, stride: int) -> Tensor:
        w = self.weights[f"{name}.conv"]
        return self.scaled(nn.functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2), w)

    def end(self, y: Tensor, name: str, *, to_trunk: bool) -> Tensor:
        return self.activation(self.error(y))

    def classifier(self, x: Tensor, name: str) -> Tensor:
        w = self.weights[name]
        return self.scaled(self.error(self.activation(x) @ w.t()), w)

    def update(self, step: int) -> None:
        for name, w in self.weights.items():
            assert w.grad is not None
            draws = uniforms(tuple(w.shape), Key(self.seed, tensor_id(f"{name}/update"), step))
            self.stored[name] = update(self.stored[name], w.grad.numpy(), 8, 8, 1 - sigma(8), draws)


@both_arithmetics
def test_training_of_a_residual_network(arithmetic: Arithmetic) -> None:
    """Eight steps on digits, bit for bit: logits, and the stored weights of every layer after each step. The gradient
    of the loss is taken as the implementation has it, as float32."""
    torch.manual_seed(0)
    recipe = WAGE.build({})
    model = ResidualNet(bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    converted = convert(model, recipe, seed=3, arithmetic=arithmetic)
    optimizer = build_optimizer(converted, recipe, SGD)

    def stored() -> dict[str, Array]:
        return {name: layer.master.dequantize().double().numpy() for name, layer in converted.layers()}  # type: ignore[operator,union-attr]

    reference = WageNet(stored(), seed=3)
    for step, images, labels in digit_batches(8):
        logits, gradient = train_step(converted, optimizer, step, images, labels)
        pixels = np.clip(np.round(images.double().numpy() * 32), -127, 127) / 32  # multiples of 2^-5 within +-4
        reference.start()
        expected = logits_of(reference, torch.from_numpy(pixels))
        assert torch.equal(logits.double(), expected), step
        expected.backward(gradient.double())
        reference.update(step)
        for name, w in stored().items():
            assert np.array_equal(w, reference.stored[name]), (step, name)
