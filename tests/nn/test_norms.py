"""Normalisations: closed-form backward against autograd, known scales, running statistics."""

import math

import pytest
import torch
from torch import nn

from qbench.nn.norms import build_norm
from qbench.nn.norms.range import expected_range, range_constant
from qbench.nn.site import Clock
from qbench.quant.formats import Levels
from qbench.recipe import DirectNorm, LevelNorm, Norm, RangeNorm


def norm_of(spec: Norm, channels: int) -> nn.Module:
    module = build_norm(nn.BatchNorm2d(channels), spec, "norm", Clock())
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 1.5, channels))  # type: ignore[union-attr,arg-type,operator]
        module.bias.copy_(torch.linspace(-1, 1, channels))  # type: ignore[union-attr,arg-type,operator]
    return module.double()


def range_norm_by_autograd(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, spec: RangeNorm) -> torch.Tensor:
    """Paper, Eq. 2, written with differentiable operations."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    parts = rows.view(spec.chunks, -1, rows.shape[1])
    constant = range_constant(spec.constant, parts.shape[1])
    scale = constant * (parts.max(1).values - parts.min(1).values).mean(0) + spec.eps
    y = (rows - rows.mean(0)) / scale * weight + bias
    return y.view(x.shape[0], x.shape[2], x.shape[3], -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("chunks", [1, 4, 16])
@pytest.mark.parametrize("constant", ["paper", "code", "exact"])
def test_range_norm_backward_equals_autograd(chunks: int, constant: str) -> None:
    """float64; 1e-12 is some thousand roundings of sums over 128 values."""
    spec = RangeNorm(constant=constant, chunks=chunks)  # type: ignore[arg-type]
    module = norm_of(spec, 3)
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    upstream = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted_inputs = (x, module.weight, module.bias)
    y = module(x)
    expected = range_norm_by_autograd(x, module.weight, module.bias, spec)  # type: ignore[arg-type]
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    got = torch.autograd.grad(y, wanted_inputs, upstream)  # type: ignore[arg-type]
    wanted = torch.autograd.grad(expected, wanted_inputs, upstream)  # type: ignore[arg-type]
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tie", ["one", "split", "all"])
def test_range_norm_ties(tie: str) -> None:
    """With two equal maxima the pull on the maximum goes to one, is shared, or is given to both."""
    module = norm_of(RangeNorm(chunks=1, tie=tie), 1)  # type: ignore[arg-type]
    x = torch.tensor([2.0, 2.0, -1.0, 0.5], dtype=torch.float64).view(4, 1, 1, 1).requires_grad_()
    upstream = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).view(4, 1, 1, 1)
    (grad,) = torch.autograd.grad(module(x), x, upstream)
    first, second = grad.flatten()[:2].tolist()
    plain = first - second  # differs from the upstream's own share only by the pull
    slope = 0.5 / (range_constant("code", 4) * 3 + 1e-5)
    pull = {"one": -1, "split": 0, "all": 0}[tie]
    assert math.copysign(1, round(plain - slope, 9) or 0.0) == (pull or 1)
    total = float(grad.sum())
    assert total == pytest.approx(0, abs=1e-12) if tie != "all" else abs(total) > 1e-3


@pytest.mark.parametrize(("constant", "deviation"), [("code", 1.046), ("paper", 0.565), ("exact", 1.0)])
def test_range_norm_output_deviation(constant: str, deviation: float) -> None:
    """Gaussian input, n = 3136, one chunk, mean over 1024 channels: 1 % covers the ensemble's scatter."""
    module = build_norm(nn.BatchNorm2d(1024), RangeNorm(constant=constant, chunks=1), "norm", Clock())  # type: ignore[arg-type]
    x = torch.randn(16, 1024, 14, 14, generator=torch.Generator().manual_seed(0))
    spread = module(x).detach().std(dim=(0, 2, 3)).mean()
    assert float(spread) == pytest.approx(deviation, rel=0.01)


@pytest.mark.parametrize(
    ("count", "expected"), [(16, 3.541), (64, 4.689), (256, 5.654), (3136, 7.104), (12544, 7.812), (200704, 9.058)]
)
def test_expected_range_of_normal_values(count: int, expected: float) -> None:
    """The table was measured by Monte Carlo over few samples: 0.3 %."""
    assert expected_range(count) == pytest.approx(expected, rel=0.003)


def test_range_constant_needs_two_values() -> None:
    with pytest.raises(ValueError, match="at least two values"):
        range_constant("paper", 1)


def test_range_norm_uses_fewer_chunks_where_they_do_not_divide() -> None:
    module = norm_of(RangeNorm(chunks=16), 2)
    assert module(torch.randn(3, 2, 2, 2, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("spec", [RangeNorm(), DirectNorm(), LevelNorm(Levels(4))], ids=str)
@pytest.mark.parametrize("value", [0.0, 3.25])
def test_constant_channel_is_finite_both_ways(spec: Norm, value: float) -> None:
    module = build_norm(nn.BatchNorm2d(2), spec, "norm", Clock())
    x = torch.full((4, 2, 4, 4), value, requires_grad=True)
    y = module(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_direct_norm_without_rounding_is_batch_norm() -> None:
    """All grids off: WAGEUBN's norm with eps on the deviation. With a negligible eps it is batch norm, to rounding."""
    spec = DirectNorm(None, None, None, None, eps=1e-20)
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    upstream = torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    module = norm_of(spec, 3)
    y = module(x)
    expected = nn.functional.batch_norm(x, None, None, module.weight, module.bias, training=True, eps=1e-20)  # type: ignore[arg-type]
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(y, (x, module.weight, module.bias), upstream),  # type: ignore[arg-type]
        torch.autograd.grad(expected, (x, module.weight, module.bias), upstream),  # type: ignore[arg-type]
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=0, atol=1e-11)


def test_direct_norm_values_lie_on_their_grids() -> None:
    module = build_norm(nn.BatchNorm2d(3), DirectNorm(), "norm", Clock())
    normalised = module(torch.randn(8, 3, 4, 4)).detach() * 2**7  # gamma 1, beta 0: y is the normalised value
    assert torch.equal(normalised, normalised.round())


LEVEL_COSINES = {2: 0.9880, 3: 0.9952, 4: 0.9985, 5: 0.9995}
"""cos(approximate dx, exact dx), upstream gradient 0.7 a + noise behind a ReLU, a its output (worked out for 64
channels of 8192 normal values)."""


@pytest.mark.parametrize(("bits", "cosine"), LEVEL_COSINES.items())
def test_level_norm_backward_is_close_to_exact(bits: int, cosine: float) -> None:
    """0.002: the table is one sample, and does not say how its noise is scaled against the activation."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8192, 64, generator=generator).requires_grad_()
    y = build_norm(nn.BatchNorm1d(64), LevelNorm(Levels(bits)), "norm", Clock())(x)
    activation = y.detach().relu()
    upstream = (0.7 * activation + torch.randn(8192, 64, generator=generator)) * (activation > 0)
    (got,) = torch.autograd.grad(y, x, upstream)
    (exact,) = torch.autograd.grad(nn.BatchNorm1d(64)(x), x, upstream)
    measured = float(nn.functional.cosine_similarity(got.flatten(), exact.flatten(), dim=0))
    assert measured == pytest.approx(cosine, abs=0.002)


def test_level_norm_keeps_one_byte_per_value() -> None:
    norm = build_norm(nn.BatchNorm2d(4), LevelNorm(Levels(4)), "norm", Clock())
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        norm(torch.randn(8, 4, 5, 5, requires_grad=True))
    assert max(t.numel() * t.element_size() for t in kept) == 8 * 4 * 5 * 5


@pytest.mark.parametrize("spec", [RangeNorm(momentum=1.0), DirectNorm(momentum=1.0)], ids=str)
def test_inference_with_the_last_batch_repeats_training(spec: Norm) -> None:
    """With weight 1 on the new statistics, evaluation normalises exactly as the last training batch was."""
    module = build_norm(nn.BatchNorm2d(3), spec, "norm", Clock())
    x = torch.randn(8, 3, 4, 4)
    trained = module(x).detach()
    module.eval()
    assert torch.allclose(module(x), trained, atol=1e-5)  # one multiplication in another order
