"""Banner, Hubara, Hoffer, Soudry 2018 (arXiv:1805.11046) and the authors' code (GitHub, eladhoffer/quantized.pytorch):
Range batch norm's constants and gradients, both affine quantisers, the cosine of quantised Gaussian vectors, and a
whole block with bifurcated gradients, each re-derived in float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from arithmetics import both_arithmetics
from numpy.typing import NDArray
from torch import Tensor, nn
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.nn import convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.clock import Clock
from qbench.nn.norms import build_norm
from qbench.nn.norms.range import RangeBatchNorm, expected_range, range_constant
from qbench.quant.formats import Affine, Binary, FixedPoint, Quantizer, Symmetric
from qbench.quant.quantize import quantize
from qbench.recipe import Arithmetic, RangeNorm, Recipe

Array = NDArray[np.float64]
Scheme = Literal["zero_point", "min_offset"]
BANNER8 = find_method("banner8")

# --- section 3: the range as a scale

RANGES = [  # n, E[range] / sigma, paper's constant times range / sigma, code's, 1 / E[range]; measured by Monte Carlo
    (16, 3.541, 1.504, 0.812, 0.2824), (64, 4.689, 1.626, 0.878, 0.2132), (256, 5.654, 1.698, 0.917, 0.1769),
    (784, 6.343, 1.737, 0.939, 0.1577), (3136, 7.104, 1.771, 0.956, 0.1408), (12544, 7.812, 1.798, 0.971, 0.1280),
    (50176, 8.482, 1.823, 0.985, 0.1179), (200704, 9.058, 1.833, 0.990, 0.1104),
]  # fmt: skip


@pytest.mark.parametrize("row", RANGES, ids=lambda row: str(row[0]))
def test_constants_times_the_expected_range(row: tuple[int, float, float, float, float]) -> None:
    """0.3 %: the table was measured over few samples."""
    count, expected, paper, code, exact = row
    mean_range = expected_range(count)
    assert mean_range == pytest.approx(expected, rel=0.003)
    assert range_constant("paper", count) * mean_range == pytest.approx(paper, rel=0.003)
    assert range_constant("code", count) * mean_range == pytest.approx(code, rel=0.003)
    assert range_constant("exact", count) == pytest.approx(exact, rel=0.003)


def test_constants_as_printed() -> None:
    """Eq. 2: 1 / sqrt(2 ln n); the code's 0.5 * 0.35 * (1 + sqrt(pi ln 4)) / sqrt(2 ln m) = 0.540208 / sqrt(2 ln m)."""
    for count in (16, 784, 12544):
        assert range_constant("paper", count) == pytest.approx(1 / math.sqrt(2 * math.log(count)), rel=1e-12)
        assert range_constant("code", count) == pytest.approx(0.540208 / math.sqrt(2 * math.log(count)), rel=1e-6)


def test_bounds_of_the_paper() -> None:
    """Eq. 3 and 4: 0.325 sigma <= C(n) E[range] <= 2 sigma."""
    for count, *_ in RANGES:
        assert 0.23 * 2 / math.sqrt(2) <= range_constant("paper", count) * expected_range(count) <= 2


@pytest.mark.parametrize(("constant", "deviation"), [("code", 1.046), ("paper", 0.565), ("exact", 1.0)])
def test_output_deviation(constant: str, deviation: float) -> None:
    """Gaussian input, n = 3136, one chunk, mean over 1024 channels: 1 % (a single channel scatters by about 6 %)."""
    norm = build_norm(nn.BatchNorm2d(1024), RangeNorm(constant=constant, chunks=1), "norm", Clock())  # type: ignore[arg-type]
    x = torch.randn(16, 1024, 14, 14, generator=torch.Generator().manual_seed(0))
    spread = norm(x).detach().std(dim=(0, 2, 3)).mean()
    assert float(spread) == pytest.approx(deviation, rel=0.01)


def range_norm(x: Tensor, weight: Tensor, bias: Tensor, kappa: float, chunks: int, eps: float = 1e-5) -> Tensor:
    """Section 3 and the code's chunks, written with differentiable operations: y = gamma (x - mean) / (kappa * mean
    range of the chunks + eps) + beta. One element per chunk takes the gradient of an extreme."""
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, c)
    parts = rows.view(chunks, -1, c)
    scale = kappa * (parts.max(1).values - parts.min(1).values).mean(0) + eps
    y = (rows - rows.mean(0)) / scale * weight + bias
    return y.view(n, h, w, c).permute(0, 3, 1, 2)


@pytest.mark.parametrize("chunks", [1, 4, 16])
@pytest.mark.parametrize("constant", ["paper", "code"])
def test_range_norm_and_its_gradient(chunks: int, constant: str) -> None:
    """Against autograd, float64; 1e-12 is some thousand roundings of sums over 128 values."""
    module = build_norm(nn.BatchNorm2d(3), RangeNorm(constant=constant, chunks=chunks), "norm", Clock()).double()  # type: ignore[arg-type]
    assert isinstance(module, RangeBatchNorm)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 1.5, 3))
        module.bias.copy_(torch.linspace(-1, 1, 3))
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    upstream = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=generator)
    numerator = 1.0 if constant == "paper" else 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4)))
    kappa = numerator / math.sqrt(2 * math.log(128 // chunks))
    expected = range_norm(x, module.weight, module.bias, kappa, chunks)
    wanted = (x, module.weight, module.bias)
    gradients = torch.autograd.grad(expected, wanted, upstream)
    y = module(x)
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    for got, exact in zip(torch.autograd.grad(y, wanted, upstream), gradients, strict=True):
        assert torch.allclose(got, exact, rtol=0, atol=1e-12)


def test_closed_form_of_the_gradient() -> None:
    """dx = (g - mean(g)) / D - kappa / (K D) * sum(g xhat) * ([attains its chunk's max] - [attains its min])."""
    module = build_norm(nn.BatchNorm1d(1), RangeNorm(constant="paper", chunks=2), "norm", Clock()).double()
    x = torch.tensor([0.5, -1.0, 2.0, 0.25, -3.0, 1.0, 0.0, 1.5], dtype=torch.float64).view(8, 1).requires_grad_()
    g = torch.tensor([0.1, -0.2, 0.3, 0.05, -0.4, 0.2, 0.6, -0.1], dtype=torch.float64)
    (got,) = torch.autograd.grad(module(x), x, g.view(8, 1))
    kappa = 1 / math.sqrt(2 * math.log(4))
    scale = kappa * ((2.0 + 1.0) + (1.5 + 3.0)) / 2 + 1e-5
    values = x.detach().flatten()
    xhat = (values - values.mean()) / scale
    pull = kappa / (2 * scale) * (g * xhat).sum()
    signs = torch.tensor([0, -1, 1, 0, -1, 0, 0, 1], dtype=torch.float64)
    assert torch.allclose(got.flatten(), (g - g.mean()) / scale - pull * signs, rtol=0, atol=1e-15)


def test_running_statistics_of_the_code() -> None:
    """new = 0.1 old + 0.9 batch: the stored momentum multiplies the old value."""
    recipe = BANNER8.build({"preset": "code"})
    assert isinstance(recipe.norm, RangeNorm)
    module = build_norm(nn.BatchNorm1d(1), RangeNorm(momentum=recipe.norm.momentum, chunks=1), "norm", Clock())
    assert isinstance(module, RangeBatchNorm)
    x = torch.tensor([[0.0], [1.0], [2.0], [5.0]])
    module(x)
    kappa = 0.540208 / math.sqrt(2 * math.log(4))
    assert float(module.running_mean) == pytest.approx(0.9 * 2.0)
    assert float(module.running_scale) == pytest.approx(0.1 + 0.9 * (kappa * 5 + 1e-5), rel=1e-5)
    assert isinstance(recipe.activation, Affine)
    assert recipe.activation.old_weight == 0.1


def test_norm_of_the_code_on_8_bits() -> None:
    """Input, 1 / scale, gamma and beta each 8-bit over their own range, as in the code's module; rounding to nearest,
    where the code draws for the input. 2e-5 is float32; a code that falls the other way would be a step of 0.01."""
    recipe = BANNER8.build({"preset": "code", "activation_rounding": "nearest"})
    module = build_norm(nn.BatchNorm2d(4), recipe.norm, "norm", Clock())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        module.weight.copy_(torch.rand(4, generator=generator) + 0.5)  # type: ignore[operator,union-attr]
        module.bias.copy_(torch.randn(4, generator=generator))  # type: ignore[operator,union-attr]
    x = torch.randn(8, 4, 4, 4, generator=generator)
    exact = x.double().numpy()
    samples = exact.reshape(8, -1)
    q = of_code(exact, 8, samples.min(1).mean(), samples.max(1).mean())
    rows = q.transpose(0, 2, 3, 1).reshape(-1, 4)
    parts = rows.reshape(16, -1, 4)
    kappa = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(8))
    inverse = 1 / (kappa * (parts.max(1) - parts.min(1)).mean(0) + 1e-5)
    gamma, beta = (p.detach().double().numpy() for p in (module.weight, module.bias))  # type: ignore[operator,union-attr]
    inverse, gamma, beta = (of_code(v, 8, v.min(), v.max()) for v in (inverse, gamma, beta))
    y = (rows - rows.mean(0)) * inverse * gamma + beta
    got = module(x).detach().permute(0, 2, 3, 1).reshape(-1, 4).double().numpy()
    assert np.abs(got - y).max() < 2e-5


@pytest.mark.parametrize(("scheme", "last"), [("min_offset", 2.9), ("zero_point", 2.9), ("zero_point", 29.0)])
def test_gradient_of_the_norm_of_the_code_is_exact_behind_a_rounded_scale(scheme: Scheme, last: float) -> None:
    """Rounding passes the gradient to 1 / (constant range + eps), whose derivative is then that of the exact range, as
    autograd takes it in the code. Beside channels of small ranges 1 / scale is rounded to 0."""
    vector = Affine(3, scheme=scheme)
    module = build_norm(nn.BatchNorm2d(4), RangeNorm("code", 4, scale=vector), "norm", Clock())
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 4, 4, 4, generator=generator) * torch.tensor([1.0, 1.3, 1.7, last]).view(1, 4, 1, 1)
    upstream = torch.randn(x.shape, generator=generator)
    module(x.requires_grad_()).backward(upstream)

    exact = x.detach().double().requires_grad_()
    rows = exact.permute(0, 2, 3, 1).reshape(-1, 4)
    parts = rows.view(4, -1, 4)
    kappa = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(32))
    inverse = 1 / (kappa * (parts.amax(1) - parts.amin(1)).mean(0) + 1e-5)
    values = inverse.detach()
    used = inverse + (quantize(values.float(), vector, Key(0, 0, 0)).dequantize().double() - values)
    assert float((used / inverse - 1).detach().abs().max()) > 0.02
    assert (float(used.detach().min()) == 0) == (last == 29.0)
    ((rows - rows.mean(0)) * used).backward(upstream.double().permute(0, 2, 3, 1).reshape(-1, 4))
    assert x.grad is not None and exact.grad is not None
    assert float((x.grad.double() - exact.grad).abs().max()) < 1e-6


# --- section 4: the quantisers


def of_paper(x: Array, bits: int, draws: Array | None = None) -> tuple[Array, float]:
    """GEMMLOWP: s = (max - min) / 2^b; z = round(-min / s); q = round(x / s + z); value s (q - z). The range holds 0,
    and z is kept inside the codes, so that real zero is one."""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = (high - low) / 2**bits
    zero = np.clip(np.round(-low / scale), 0, 2**bits - 1)
    return scale * (np.clip(_rounded(x / scale + zero, draws), 0, 2**bits - 1) - zero), scale


def of_code(x: Array, bits: int, low: float, high: float, draws: Array | None = None) -> Array:
    """s = (max - min) / (2^b - 1); q = round(clip((x - min) / s, 0, 2^b - 1)); value s q + min."""
    scale = (high - low) / (2**bits - 1)
    if scale == 0:
        return np.full_like(x, low)
    u = np.clip((x - low) / scale, 0, 2**bits - 1)
    value: Array = scale * np.clip(_rounded(u, draws), 0, 2**bits - 1) + low
    return value


def _rounded(v: Array, draws: Array | None) -> Array:
    value: Array = np.round(v) if draws is None else np.floor(v) + (draws < v - np.floor(v))
    return value


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("offset", [-3.0, 0.0, 0.4, 5.0])
def test_affine_quantisers(bits: int, rounding: str, offset: float) -> None:
    """4,000 values: at most two may fall the other way, where float32 crosses a boundary between codes."""
    key = Key(2, 3, 4)
    x = torch.randn(4000, generator=torch.Generator().manual_seed(bits)) + offset
    exact = x.double().numpy()
    draws = uniforms(4000, key) if rounding == "stochastic" else None
    expected, scale = of_paper(exact, bits, draws)
    got = quantize(x, Affine(bits, rounding, "zero_point"), key).dequantize().double().numpy()  # type: ignore[arg-type]
    assert (np.abs(got - expected) > 1e-3 * scale).sum() <= 2
    expected = of_code(exact, bits, exact.min(), exact.max(), draws)
    got = quantize(x, Affine(bits, rounding, "min_offset"), key).dequantize().double().numpy()  # type: ignore[arg-type]
    assert (np.abs(got - expected) > 1e-3 * scale).sum() <= 2


def test_mean_of_a_million_stochastic_roundings() -> None:
    """3.3 in steps of 1: mean within 0.003."""
    x = torch.full((1_000_002,), 3.3)
    x[0], x[1] = 0.0, 255.0
    q = quantize(x, Affine(8, "stochastic", "min_offset"), Key(1, 2, 3)).dequantize()[2:]
    assert float(q.double().mean()) == pytest.approx(3.3, abs=0.003)


def test_zero_gradient_stays_zero() -> None:
    """The later code divides 0 by 0 here (GitHub, eladhoffer/convNet.pytorch, issue 15)."""
    for spec in (Affine(8, "stochastic"), Affine(8, "stochastic", "min_offset"), Symmetric(16)):
        assert torch.equal(quantize(torch.zeros(50), spec, Key(1, 2, 3)).dequantize(), torch.zeros(50))


# --- section 5: direction of Gaussian vectors, N = 1e6

AFFINE = [(2, 0.8036), (3, 0.9318), (4, 0.9839), (6, 0.9991), (8, 0.9999)]
"""Bits in all, cosine with the quantised vector; measured with the affine quantiser over the sample's range."""


def cosine(x: Tensor, spec: Quantizer) -> float:
    value = quantize(x, spec, Key(0, 0, 0)).dequantize().double()
    return float(nn.functional.cosine_similarity(x.double(), value, dim=0))


@pytest.mark.parametrize(("bits", "expected"), AFFINE)
def test_cosine_of_affine_quantisation(bits: int, expected: float) -> None:
    """The cosine follows the extremes of a sample; the table is one. So it lies within three standard deviations of
    eight samples, which are below 0.003 from 4 bits up, and half a unit of the table's last digit."""
    samples = [torch.randn(1_000_000, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    cosines = [cosine(x, Affine(bits, scheme="min_offset")) for x in samples]
    spread = 3 * float(np.std(cosines, ddof=1)) + 5e-5
    assert spread < (0.003 if bits >= 4 else 0.02)
    assert np.mean(cosines) == pytest.approx(expected, abs=spread)


def test_cosine_of_the_sign() -> None:
    """sqrt(2 / pi) = 0.79788."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1))
    assert cosine(x, Binary()) == pytest.approx(0.79788, abs=1e-3)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_right_triangle_estimate(bits: int) -> None:
    """cos = 1 / sqrt(1 + step^2 / (12 sigma^2)): noise uniform within a step, orthogonal to the vector (Eq. 10)."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(2))
    step = float(x.abs().max()) / (2 ** (bits - 1) - 1)
    assert cosine(x, Symmetric(bits)) == pytest.approx(1 / math.sqrt(1 + step**2 / 12), abs=0.001)


# --- section 4: a block with bifurcated gradients


def integer_16(x: Array) -> Array:
    """The 16-bit gradient of sections 1, 6.3 and 7: symmetric, largest magnitude at the last code."""
    scale = np.abs(x).max() / (2**15 - 1)
    return np.asarray(np.round(x / scale) * scale)


NEAREST = Affine(8)
BLOCK = Recipe(
    weight=NEAREST, activation=NEAREST, error=NEAREST, wgrad_error=Symmetric(16), norm_error=NEAREST,
    norm=RangeNorm(chunks=4, input=NEAREST),
)  # fmt: skip
"""The method's default with gradients rounded to nearest, so that the float64 derivation takes the same codes."""


@both_arithmetics
@pytest.mark.parametrize("recipe", [BLOCK, replace(BLOCK, wgrad_line=True)], ids=["int16", "line"])
def test_block(arithmetic: Arithmetic, recipe: Recipe) -> None:
    """Forward and backward of conv, Range batch norm, addition and ReLU, every operand quantised as in section 4.

    Output to 1e-5 of its size. Gradients: float32 lets a few codes in thousands fall the other way, a step of 1/255 of
    the range each, which moves the norm of the difference by far less than 1 %."""
    torch.manual_seed(0)
    block = ConvNormAct(5, 6, 3, to_trunk=True)
    weight = block.conv.weight.detach().double().numpy()  # type: ignore[union-attr,operator]
    gamma, beta = np.linspace(0.5, 1.5, 6), np.linspace(-0.5, 0.5, 6)
    with torch.no_grad():
        block.norm.weight.copy_(torch.from_numpy(gamma))  # type: ignore[union-attr,operator]
        block.norm.bias.copy_(torch.from_numpy(beta))  # type: ignore[union-attr,operator]
    model = nn.Sequential(block).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = convert(model, recipe, arithmetic=arithmetic).model[0]  # type: ignore[index]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 5, 6, 6, generator=generator).requires_grad_()
    trunk = torch.randn(8, 6, 6, 6, generator=generator).requires_grad_()
    upstream = torch.randn(8, 6, 6, 6, generator=generator) * 1e-3
    y = module(x, trunk)
    y.backward(upstream)

    a, w = (torch.from_numpy(of_paper(v, 8)[0]).requires_grad_() for v in (x.detach().double().numpy(), weight))
    product = nn.functional.conv2d(a, w, padding=1)
    q = torch.from_numpy(of_paper(product.detach().numpy(), 8)[0]).requires_grad_()
    parameters = [torch.from_numpy(p).requires_grad_() for p in (gamma, beta)]
    kappa = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(8 * 36 // 4))
    normalised = range_norm(q, *parameters, kappa, 4)
    pre = (normalised + trunk.detach()).detach()
    assert torch.allclose(y.detach().double(), pre.clamp(min=0), rtol=0, atol=1e-5 * float(pre.abs().max()))

    masked = torch.where(pre > 0, upstream.double(), 0.0)
    e = torch.from_numpy(of_paper(masked.numpy(), 8)[0])
    at_product, *at_parameters = torch.autograd.grad(normalised, (q, *parameters), e)
    for_input = torch.from_numpy(of_paper(at_product.numpy(), 8)[0])
    for_weight = at_product if recipe.wgrad_line else torch.from_numpy(integer_16(at_product.numpy()))
    (grad_x,) = torch.autograd.grad(product, a, for_input, retain_graph=True)
    (grad_w,) = torch.autograd.grad(product, w, for_weight)
    assert trunk.grad is not None
    assert torch.equal(trunk.grad.double(), masked)
    got = [x.grad, module.conv.weight.grad, module.norm.weight.grad, module.norm.bias.grad]
    for ours, exact in zip(got, [grad_x, grad_w, *at_parameters], strict=True):
        assert ours is not None
        assert float((ours.double() - exact).norm() / exact.norm()) < 0.01


def test_gradients_of_bifurcation_as_in_the_code() -> None:
    """The code's y = A + B - stopgrad(A): weights see the float gradient times the 8-bit input, the input sees the
    8-bit gradient times the 8-bit weights. 1e-5 and less for float32 sums; some codes may fall the other way."""
    torch.manual_seed(0)
    options = {"preset": "code", "activation_rounding": "nearest", "norm": "batch", "norm_error": False}
    recipe = BANNER8.build(options)
    linear = nn.Linear(20, 9)
    weight, bias = (p.detach().double().numpy() for p in linear.parameters())
    layer = convert(nn.Sequential(linear), recipe, seed=4).model[0]  # type: ignore[index]
    x = torch.randn(16, 20).requires_grad_()
    g = torch.randn(16, 9) * 1e-4
    y = layer(x)
    y.backward(g)
    exact = x.detach().double().numpy()
    a = of_code(exact, 8, exact.min(1).mean(), exact.max(1).mean())
    w, b = (of_code(v, 8, v.min(), v.max()) for v in (weight, bias))
    assert np.abs(y.detach().double().numpy() - (a @ w.T + b)).max() < 1e-5
    gradient = g.double().numpy()
    assert np.abs(layer.weight.grad.double().numpy() - gradient.T @ a).max() < 1e-8
    draws = uniforms((16, 9), Key(4, layer.error_site.identity, 0))
    for_input = of_code(gradient, 8, gradient.min(), gradient.max(), draws)
    assert x.grad is not None
    expected = for_input @ w
    assert np.linalg.norm(x.grad.double().numpy() - expected) < 1e-3 * np.linalg.norm(expected)
    assert np.abs(layer.bias.grad.double().numpy() - gradient.sum(0)).max() < 1e-8


def test_weight_gradient_does_not_see_the_error_bits() -> None:
    """Section 4: fewer bits change the input gradient and leave the weight gradient bit-identical."""
    results = []
    for bits in (8, 3):
        torch.manual_seed(0)
        recipe = BANNER8.build({"error_bits": bits, "norm": "batch", "norm_error": False})
        layer = convert(nn.Sequential(nn.Conv2d(3, 4, 3)), recipe).model[0]  # type: ignore[index]
        x = torch.randn(2, 3, 6, 6).requires_grad_()
        layer(x).backward(torch.randn(2, 4, 4, 4))
        results.append((x.grad, layer.weight.grad))
    assert not torch.equal(results[0][0], results[1][0])  # type: ignore[arg-type]
    assert torch.equal(results[0][1], results[1][1])


# --- the presets


def test_paper_preset() -> None:
    affine = Affine(8)
    assert BANNER8.build({"preset": "paper"}) == Recipe(
        weight=affine,
        activation=Affine(8, tracked=True),
        error=Affine(8, "stochastic"),
        wgrad_error=Symmetric(16),
        norm=RangeNorm("paper", chunks=1, input=Affine(8, tracked=True)),
    )


def test_code_preset() -> None:
    measured = Affine(8, "stochastic", "min_offset", range="mean_minmax", tracked=True)
    vector = Affine(8, scheme="min_offset")
    error = Affine(8, "stochastic", "min_offset")
    assert BANNER8.build({"preset": "code"}) == Recipe(
        weight=vector,
        activation=measured,
        bias=vector,
        error=error,
        wgrad_error=None,
        norm_error=error,
        norm=RangeNorm("code", 16, "one", 0.9, 1e-5, measured, vector, vector),
    )


def test_largest_reductions_of_an_int32() -> None:
    """Section 1.5's budget: u8 u8 33,025 terms, s8 s8 133,144 (within +-127), s8 s16 512, u8 u16 128."""
    limits = [(255, 255, 33_025), (127, 127, 133_144), (128, 32_768, 511), (255, 65_535, 128)]
    for a, b, terms in limits:
        assert terms * a * b < 2**31 <= (terms + 1) * a * b


def test_fixed_point_and_affine_draw_the_same_bits() -> None:
    """One stream per key, whatever the format: stochastic rounding of the same fractions goes the same way."""
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 15
    x[0], x[1] = 0.0, 15.0
    key = Key(1, 2, 3)
    affine = quantize(x, Affine(4, "stochastic", "min_offset"), key).codes
    fixed = quantize(x, FixedPoint(8, 0, "stochastic"), key).codes
    assert torch.equal(affine.int(), fixed.int())
