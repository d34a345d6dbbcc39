"""Graham 2017 (arXiv:1702.08231): the candidate level sets for a normal input, the gradient with levels in place of
exact values, whole training steps, and what is kept for the backward pass.

The paper's own level sets and tables are not known to us; the values below were worked out for a standard normal input
from the scheme that is (normalise, quantise, affine)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from arithmetics import both_arithmetics
from kept_tensors import noting_kept
from residual_net import Reference, ResidualNet, digit_batches, logits_of, through, train_step, watched
from scipy.optimize import brentq
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.nn import convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.clock import Clock
from qbench.nn.deferred import materialised
from qbench.nn.norms import build_norm
from qbench.optim import build_optimizer
from qbench.quant.formats import Levels
from qbench.quant.levels import decision_points, level_table
from qbench.recipe import Arithmetic, LevelNorm
from qbench.train.settings import OptimizerSettings

GRAHAM = find_method("graham")

# --- level sets

STEPS = {1: 2 * 0.7979, 2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 8: 0.0308}
POSITIVE = {
    (2, "equal_area"): [0.3247, 1.2711],
    (3, "equal_area"): [0.1580, 0.4913, 0.8954, 1.6468],
    (4, "equal_area"): [0.0785, 0.2375, 0.4027, 0.5800, 0.7779, 1.0129, 1.3259, 1.9677],
    (2, "lloyd_max"): [0.4528, 1.5104],
    (3, "lloyd_max"): [0.2451, 0.7560, 1.3439, 2.1519],
    (4, "lloyd_max"): [0.1284, 0.3880, 0.6568, 0.9423, 1.2562, 1.6180, 2.0690, 2.7326],
}
TABLE = {  # bits, grid: mean square error, E[q^2], entropy in bits
    (1, "uniform"): (0.3634, 0.637, 1.00), (2, "uniform"): (0.1189, 0.881, 1.90),
    (2, "equal_area"): (0.1394, 0.861, 2.00), (2, "lloyd_max"): (0.1175, 0.883, 1.91),
    (3, "uniform"): (0.0374, 0.963, 2.76), (3, "equal_area"): (0.0550, 0.945, 3.00),
    (3, "lloyd_max"): (0.0346, 0.966, 2.83), (4, "uniform"): (0.0115, 0.989, 3.60),
    (4, "equal_area"): (0.0222, 0.978, 4.00), (4, "lloyd_max"): (0.0095, 0.991, 3.77),
    (5, "uniform"): (0.0035, 0.997, 4.45), (5, "equal_area"): (0.0092, 0.991, 5.00),
    (5, "lloyd_max"): (0.0025, 0.998, 4.73), (8, "uniform"): (0.00009, 1.000, 7.07),
}  # fmt: skip


@pytest.mark.parametrize(("bits", "step"), STEPS.items())
def test_uniform_step(bits: int, step: float) -> None:
    """The step of least mean square error."""
    table = level_table(Levels(bits))
    assert table.diff().tolist() == pytest.approx([step] * (2**bits - 1), abs=6e-5)


@pytest.mark.parametrize(("key", "levels"), POSITIVE.items(), ids=str)
def test_positions(key: tuple[int, str], levels: list[float]) -> None:
    table = level_table(Levels(key[0], key[1]))  # type: ignore[arg-type]
    assert table[len(levels) :].tolist() == pytest.approx(levels, abs=6e-5)
    assert torch.equal(table, -table.flip(0))


@pytest.mark.parametrize(("key", "expected"), TABLE.items(), ids=str)
def test_error_energy_and_entropy(key: tuple[int, str], expected: tuple[float, float, float]) -> None:
    """By quadrature over the standard normal density: grid error far below the digits compared."""
    spec = Levels(key[0], key[1])  # type: ignore[arg-type]
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    weight = torch.exp(-x * x / 2)
    weight /= weight.sum()
    codes = torch.bucketize(x, decision_points(spec).double())
    q = level_table(spec).double()[codes]
    mass = torch.zeros(2**spec.bits, dtype=torch.float64).scatter_add_(0, codes, weight)
    assert float((weight * (x - q) ** 2).sum()) == pytest.approx(expected[0], abs=6e-5)
    assert float((weight * q * q).sum()) == pytest.approx(expected[1], abs=6e-4)
    assert float(-(mass * mass.log2()).sum()) == pytest.approx(expected[2], abs=6e-3)


def test_log_levels_are_powers_of_two() -> None:
    positive = level_table(Levels(4, "log"))[8:]
    assert torch.equal(positive.log2(), positive.log2().round())
    assert positive.log2().diff().tolist() == [1.0] * 7


# --- the gradient


def exact_by_autograd(x: Tensor, gamma: Tensor, beta: Tensor, upstream: Tensor, eps: float) -> Tensor:
    xhat = (x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt()
    (grad,) = torch.autograd.grad(gamma * xhat + beta, x, upstream)
    return grad


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("correction", [False, True])
def test_gradient_is_the_formula(bits: int, saturate: bool, correction: bool) -> None:
    """dx = (g - mean(g) - q mean(g q)) / sigma with g = gamma dy, in float64; without saturated elements in g, and with
    the third term over E[q^2], where asked for. 1e-5 of the largest value for float32."""
    generator = torch.Generator().manual_seed(bits)
    x = torch.randn(500, 3, generator=generator) * 2 + 1
    upstream = torch.randn(500, 3, generator=generator)
    spec = Levels(bits)
    norm = build_norm(nn.BatchNorm1d(3), LevelNorm(spec, saturate, correction), "norm", Clock())
    gamma, beta = torch.tensor([0.5, 1.0, 1.5]), torch.tensor([-1.0, 0.0, 1.0])
    with torch.no_grad():
        norm.weight.copy_(gamma)  # type: ignore[operator,union-attr]
        norm.bias.copy_(beta)  # type: ignore[operator,union-attr]
    wanted = (x.requires_grad_(), norm.weight, norm.bias)
    y = norm(x)
    got = torch.autograd.grad(y, wanted, upstream)  # type: ignore[arg-type]

    exact, dy = x.detach().double(), upstream.double()
    sigma = (exact.var(0, unbiased=False) + 1e-5).sqrt()
    codes = torch.bucketize((exact - exact.mean(0)) / sigma, decision_points(spec).double())
    q = level_table(spec).double()[codes]
    through = torch.where((codes == 0) | (codes == 2**bits - 1), 0.0, dy) if saturate else dy
    g = gamma.double() * through
    energy = (q * q).mean(0) if correction else torch.ones(3, dtype=torch.float64)
    dx = (g - g.mean(0) - q * (g * q).mean(0) / energy) / sigma
    assert torch.allclose(y.double(), gamma * q + beta, rtol=0, atol=1e-5)
    for ours, expected in zip(got, (dx, (dy * q).sum(0), dy.sum(0)), strict=True):
        assert float((ours.double() - expected).abs().max()) < 1e-5 * float(expected.abs().max())


COSINES = {  # bits: cosine with the exact gradient, upstream independent of and correlated with the activation;
    # mean(dx xhat) / rms(dx) of the latter, plain and with the third term over E[q^2]
    2: (0.99999, 0.9880, 0.048, 0.004), 3: (1.00000, 0.9952, 0.017, 0.002), 4: (1.00000, 0.9985, 0.005, 0.001),
    5: (1.00000, 0.9995, 0.002, 0.001), 8: (1.00000, 1.0000, 0.0001, 0.0001),
}  # fmt: skip


@pytest.mark.parametrize(("bits", "known"), COSINES.items())
def test_cosine_with_the_exact_gradient(bits: int, known: tuple[float, float, float, float]) -> None:
    """64 channels of 8,192 normal values, the upstream gradient behind a ReLU: normal noise alone, or plus 0.7 times
    the activation. The table is one sample and does not say how its noise is scaled: 0.002 for the cosine; 10 % for the
    leaks, or 0.001, twice the rounding of its digits. The scale direction carries no gradient: an exact one leaks 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8192, 64, generator=generator).requires_grad_()
    noise = torch.randn(8192, 64, generator=generator)

    def gradients(weight: float, correction: bool = False) -> tuple[Tensor, Tensor]:
        """With levels and exact, for the upstream gradient weight * a + noise where the activation a is positive."""
        norm = build_norm(nn.BatchNorm1d(64), LevelNorm(Levels(bits), energy_correction=correction), "norm", Clock())
        y = norm(x)
        a = y.detach().relu()
        upstream = (weight * a + noise) * (a > 0)
        (got,) = torch.autograd.grad(y, x, upstream)
        return got.double(), exact_by_autograd(x, torch.ones(64), torch.zeros(64), upstream, 1e-5).double()

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))

    def leak(dx: Tensor) -> float:
        exact = x.detach().double()
        xhat = (exact - exact.mean(0)) / exact.std(0)
        return float(((dx * xhat).mean(0) / dx.square().mean(0).sqrt()).abs().mean())

    assert cosine(*gradients(0.0)) == pytest.approx(known[0], abs=2e-4)
    got, exact = gradients(0.7)
    assert cosine(got, exact) == pytest.approx(known[1], abs=0.002)
    assert leak(exact) < 1e-4
    assert leak(got) == pytest.approx(known[2], rel=0.1, abs=0.001)
    assert leak(gradients(0.7, correction=True)[0]) == pytest.approx(known[3], rel=0.1, abs=0.001)


# --- whole steps of a residual network


def best_step(bits: int) -> float:
    """Of 2^bits uniform levels i * step, i = +-1/2, +-3/2, ..., for a standard normal x: the mean square error has no
    slope where step * E[i^2] = E[i x]. With the middles between levels, j * step, these are
    1/4 + sum of 2 |j| P(x > |j| step), and the sum of the density at all of them."""
    middles = torch.arange(1 - 2 ** (bits - 1), 2 ** (bits - 1), dtype=torch.float64)

    def slope(step: float) -> float:
        density = torch.exp(-((middles * step) ** 2) / 2).sum() / math.sqrt(2 * math.pi)
        square = 0.25 + (middles.abs() * torch.erfc(middles.abs() * step / math.sqrt(2))).sum()
        return float(step * square - density)

    return float(brentq(slope, 0.001, 4, xtol=1e-12))


class GrahamNet(Reference):
    """The network in float64: per channel xhat = (x - mean) / sqrt(variance + eps), q its nearest level, then
    gamma q + beta; backwards q stands for xhat. All else is float, and the optimiser SGD with momentum.

    ``seen``: the implementation's levels. Where xhat lies within :attr:`NOISE` of the middle between two levels, which
    is what float32 may miss it by, they may be the other ones and serve for what follows; all others have to be equal.
    """

    NOISE = 4e-6
    """17 of float32's roundings of values up to 4."""

    def __init__(self, bits: int, seen: dict[str, Tensor], *, saturate: bool, energy_correction: bool) -> None:
        self.bits, self.step, self.seen = bits, best_step(bits), seen
        self.saturate, self.energy_correction = saturate, energy_correction
        self.parameters: dict[str, Tensor] = {}
        self.velocity: dict[str, Tensor] = {}
        self.running: dict[str, Tensor] = {}

    def start(self, parameters: dict[str, Tensor]) -> None:
        """Take the implementation's parameters for the next step, lest differences add up."""
        self.parameters = {name: p.detach().double().requires_grad_() for name, p in parameters.items()}

    def level(self, xhat: Tensor) -> Tensor:
        largest = 2 ** (self.bits - 1)
        return ((xhat / self.step).floor().clamp(-largest, largest - 1) + 0.5) * self.step

    def quantised(self, xhat: Tensor, name: str) -> Tensor:
        q = self.level(self.seen[f"{name}/normalised"].double())
        assert ((self.level(xhat - self.NOISE) <= q) & (q <= self.level(xhat + self.NOISE))).all(), name
        return q

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean = x.detach().mean((0, 2, 3), keepdim=True)
        variance = x.detach().var((0, 2, 3), unbiased=False, keepdim=True)
        self.track(f"{name}.running_mean", mean, start=0)
        self.track(f"{name}.running_scale", variance * x[:, 0].numel() / (x[:, 0].numel() - 1), start=1)
        sigma = (variance + 1e-5).sqrt()
        q = self.quantised((x.detach() - mean) / sigma, name)

        def gradient(g: Tensor) -> Tensor:
            if self.saturate:
                g = g * (q.abs() < (2 ** (self.bits - 1) - 1) * self.step)  # not at an end of the grid
            pull = (g * q).mean((0, 2, 3), keepdim=True)
            if self.energy_correction:
                pull = pull / (q * q).mean((0, 2, 3), keepdim=True)
            return (g - g.mean((0, 2, 3), keepdim=True) - q * pull) / sigma

        gamma, beta = (self.parameters[f"{name}.{key}"].view(-1, 1, 1) for key in ("weight", "bias"))
        return gamma * through(x, lambda _: q, gradient) + beta

    def track(self, name: str, value: Tensor, start: int) -> None:
        """Running statistics as the float batch norm's: a tenth of the new value, the variance unbiased."""
        before = self.running.get(name, torch.full_like(value, start))
        self.running[name] = 0.9 * before + 0.1 * value

    def normalised(self, x: Tensor, name: str, stride: int) -> Tensor:
        w = self.parameters[f"{name}.conv.weight"]
        return self.norm(nn.functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2), f"{name}.norm")

    def classifier(self, x: Tensor, name: str) -> Tensor:
        return x @ self.parameters[f"{name}.weight"].t() + self.parameters[f"{name}.bias"]

    @torch.no_grad()
    def update(self) -> None:
        """v <- 0.9 v + g, w <- w - 0.1 v."""
        for name, p in self.parameters.items():
            self.velocity[name] = 0.9 * self.velocity.get(name, torch.zeros_like(p)) + p.grad
            p.sub_(0.1 * self.velocity[name])


@torch.no_grad()
def off(got: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest value."""
    return float((got.double().flatten() - expected.flatten()).abs().max() / expected.abs().max())


VARIANTS: list[dict[str, bool]] = [
    {"saturate": False, "energy_correction": False}, {"saturate": True, "energy_correction": False},
    {"saturate": False, "energy_correction": True}, {"saturate": True, "energy_correction": True},
]  # fmt: skip


@both_arithmetics
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("variant", VARIANTS, ids=["plain", "saturate", "energy", "both"])
def test_training_of_a_residual_network(variant: dict[str, bool], bits: int, arithmetic: Arithmetic) -> None:
    """Five steps on digits: levels, logits, gradients, parameters, momentum and running statistics. Gradients are sums
    of up to 2,048 float32 terms, the square root of whose number times 2^-24 is 3e-6; in front of a norm they cancel,
    hence 1e-4 of the largest, and a tenth of that in the parameters, at a rate of 0.1."""
    torch.manual_seed(0)
    recipe = GRAHAM.build({"bits": bits, **variant})
    model = ResidualNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    converted = convert(model, recipe, arithmetic=arithmetic)
    optimizer = build_optimizer(converted, recipe, OptimizerSettings(name="sgd", lr=0.1, momentum=0.9))
    parameters = dict(converted.model.named_parameters())
    reference = GrahamNet(bits, watched(converted), **variant)
    for step, images, labels in digit_batches(5):
        reference.start(parameters)
        logits, gradient = train_step(converted, optimizer, step, images, labels)
        expected = logits_of(reference, images.double())
        assert off(logits, expected) < 2e-6
        expected.backward(gradient.double())
        reference.update()
        for name, p in reference.parameters.items():
            assert off(parameters[name].grad, p.grad) < 1e-4, name
            assert off(optimizer.state[parameters[name]]["momentum_buffer"], reference.velocity[name]) < 1e-4, name
            assert off(parameters[name], p) < 1e-5, name
    buffers = dict(converted.model.named_buffers())
    for name, value in reference.running.items():
        assert off(buffers[name], value) < 1e-6, name
    norms = [name.removesuffix(".weight") for name in parameters if name.endswith("norm.weight")]
    assert set(reference.seen) == {f"{name}/normalised" for name in norms}


# --- memory: bits kept per activation


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    with noting_kept() as kept:
        model(x)
    sizes = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, kept)}
    exempt = {tensor.untyped_storage().data_ptr() for tensor in (x, *model.parameters())}
    return sum(size for pointer, size in sizes.items() if pointer not in exempt)


BITS_KEPT = {1: 1, 2: 2, 3: 3, 4: 4, 5: 8, 8: 8}
"""Of k-bit codes; wider ones than 4 bits take a byte each."""


@pytest.mark.parametrize(("bits", "kept"), BITS_KEPT.items())
@pytest.mark.parametrize("variant", VARIANTS, ids=["plain", "saturate", "energy", "both"])
def test_memory_of_a_stage(variant: dict[str, bool], bits: int, kept: int) -> None:
    """Convolution, norm, ReLU with E activations of C channels: k E bits and a few numbers per channel, where plain
    autograd keeps the norm's input and the ReLU's output, 64 E bits."""
    torch.manual_seed(0)
    channels, count = 16, 16 * 16 * 32 * 32
    x = torch.randn(16, 8, 32, 32).contiguous(memory_format=torch.channels_last)
    plain = nn.Sequential(ConvNormAct(8, channels, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert 8 * count <= kept_bytes(plain, x) <= 8 * count + 64 * channels
    model = convert(plain, GRAHAM.build({"bits": bits, **variant})).model.train()
    few = 24 * channels + 4 * 2**bits  # gamma, offset, 1 / sigma in up to 8 bytes each, and the table of levels
    assert count * kept // 8 <= kept_bytes(model, x) <= count * kept // 8 + few


def test_activation_is_rebuilt_exactly_from_the_codes() -> None:
    """a = relu(gamma q + beta): a table of 2^k values per channel, the same in training and from the kept codes."""
    torch.manual_seed(0)
    model = convert(nn.Sequential(ConvNormAct(3, 4, 3)), GRAHAM.build({"bits": 3})).model.train()
    with torch.no_grad():
        model[0].norm.weight.copy_(torch.tensor([0.5, -1.0, 1.5, 2.0]))  # type: ignore[index,union-attr]
        model[0].norm.bias.copy_(torch.tensor([-0.5, 0.0, 0.5, 1.0]))  # type: ignore[index,union-attr]
    y = materialised(model(torch.randn(4, 3, 8, 8))).detach()
    table = level_table(Levels(3)).double().numpy()
    for channel, (gamma, beta) in enumerate([(0.5, -0.5), (-1.0, 0.0), (1.5, 0.5), (2.0, 1.0)]):
        allowed = np.maximum(gamma * table + beta, 0)
        values = y[:, channel].unique().double().numpy()
        assert np.abs(values[:, None] - allowed).min(1).max() < 1e-6
