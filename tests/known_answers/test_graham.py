"""Graham 2017 (arXiv:1702.08231): the candidate level sets for a normal input, the gradient with levels in place of
exact values, and what is kept for the backward pass.

The paper's own level sets and tables are not known to us; the values below were worked out for a standard normal input
from the scheme that is (normalise, quantise, affine)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kept_tensors import noting_kept
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.nn import convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.clock import Clock
from qbench.nn.deferred import materialised
from qbench.nn.norms import build_norm
from qbench.quant.formats import Levels
from qbench.quant.levels import decision_points, level_table
from qbench.recipe import LevelNorm

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
def test_memory_of_a_stage(bits: int, kept: int) -> None:
    """Convolution, norm, ReLU with E activations of C channels: k E bits and a few numbers per channel, where plain
    autograd keeps the norm's input and the ReLU's output, 64 E bits."""
    torch.manual_seed(0)
    channels, count = 16, 16 * 16 * 32 * 32
    x = torch.randn(16, 8, 32, 32).contiguous(memory_format=torch.channels_last)
    plain = nn.Sequential(ConvNormAct(8, channels, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert 8 * count <= kept_bytes(plain, x) <= 8 * count + 64 * channels
    model = convert(plain, GRAHAM.build({"bits": bits})).model.train()
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
