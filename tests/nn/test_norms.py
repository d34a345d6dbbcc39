"""Normalisations: each with every recipe and both arithmetics, degenerate channels, ties, running statistics.

Their formulas are held against float64 derivations in ``tests/known_answers``."""

import math

import pytest
import torch
from kept_tensors import noting_kept
from torch import nn

from qbench.errors import InputError
from qbench.models import build_model
from qbench.nn import convert
from qbench.nn.clock import Clock
from qbench.nn.norms import build_norm
from qbench.nn.norms.layer_scale import LayerScaling
from qbench.nn.norms.range import num_chunks, range_constant
from qbench.quant.formats import Affine, Direct, Levels, Quantizer, Symmetric
from qbench.recipe import BatchNorm, BatchRenorm, DirectNorm, LayerScale, LevelNorm, Norm, RangeNorm, Recipe

NORMS: list[Norm] = [
    BatchNorm(), RangeNorm(), RangeNorm("paper", 1, "split"),
    RangeNorm(input=Affine(8), scale=Affine(8), affine=Affine(8)),
    DirectNorm(), DirectNorm(normalised=Direct(16)), LevelNorm(Levels(4)), LevelNorm(Levels(4), saturate=True),
    LevelNorm(Levels(6)), BatchRenorm(), BatchRenorm(free_steps=0, r_steps=1, d_steps=1), LayerScale(),
    LayerScale(smallest=0.0),
]  # fmt: skip
"""A new norm enters here."""


@pytest.mark.parametrize("kind", ["float", "integer", "wide"])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_any_norm_goes_with_any_recipe(norm: Norm, kind: str) -> None:
    """Two training steps and an evaluation in both arithmetics: the same numbers, all finite."""
    operands: dict[str, dict[str, Quantizer]] = {
        "float": {}, "integer": {"weight": Affine(8), "activation": Affine(8), "error": Affine(8, "stochastic")},
        "wide": {"weight": Symmetric(16), "activation": Direct(8), "norm_error": Affine(8), "trunk": Direct(12)},
    }  # fmt: skip
    results = []
    for arithmetic in ("integer", "simulated"):
        torch.manual_seed(0)
        model = build_model("resnet8", num_classes=10, in_channels=1, image_size=8, options={"width": 8})
        recipe = Recipe(norm=norm, **operands[kind])  # type: ignore[arg-type]
        converted = convert(model.to(memory_format=torch.channels_last), recipe, arithmetic=arithmetic)  # type: ignore[arg-type,call-overload]
        images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        for step in range(2):
            converted.clock.step = step
            loss = nn.functional.cross_entropy(converted.model(images), torch.arange(8))
            converted.model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for parameter in converted.model.parameters():
                    parameter.sub_(0.1 * parameter.grad)  # type: ignore[operator]
        results.append([loss.detach(), converted.model.eval()(images).detach(), *converted.model.state_dict().values()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
        assert a.isfinite().all()


def test_a_layer_scale_needs_a_layer_in_front() -> None:
    with pytest.raises(InputError, match="none is known before norm"):
        build_norm(nn.BatchNorm2d(3), LayerScale(), "norm", Clock())


def norm_of(spec: Norm, channels: int) -> nn.Module:
    module = build_norm(nn.BatchNorm2d(channels), spec, "norm", Clock())
    with torch.no_grad():
        module.weight.copy_(torch.linspace(0.5, 1.5, channels))  # type: ignore[union-attr,arg-type,operator]
        module.bias.copy_(torch.linspace(-1, 1, channels))  # type: ignore[union-attr,arg-type,operator]
    return module.double()


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


def test_range_constant_needs_two_values() -> None:
    with pytest.raises(ValueError, match="at least two values"):
        range_constant("paper", 1)


def test_range_norm_uses_fewer_chunks_where_they_do_not_divide() -> None:
    module = norm_of(RangeNorm(chunks=16), 2)
    assert module(torch.randn(3, 2, 2, 2, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize(
    ("wanted", "rows", "expected"),
    [(16, 64, 16), (16, 48, 16), (16, 12, 4), (16, 16, 8), (16, 8, 4), (7, 7, 1), (16, 2, 1), (1, 5, 1), (16, 1, 1)],
)
def test_chunks_have_at_least_two_values(wanted: int, rows: int, expected: int) -> None:
    assert num_chunks(wanted, rows) == expected


@pytest.mark.parametrize("spec", [RangeNorm(), DirectNorm(), LevelNorm(Levels(4)), BatchRenorm()], ids=str)
@pytest.mark.parametrize("value", [0.0, 3.25])
def test_constant_channel_is_finite_both_ways(spec: Norm, value: float) -> None:
    module = build_norm(nn.BatchNorm2d(2), spec, "norm", Clock())
    x = torch.full((4, 2, 4, 4), value, requires_grad=True)
    y = module(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("spec", [DirectNorm(), LevelNorm(Levels(4))], ids=str)
def test_a_channel_that_never_varied_evaluates_to_numbers(spec: Norm) -> None:
    module = build_norm(nn.BatchNorm2d(2), spec, "norm", Clock()).eval()
    module.running_scale.zero_()  # type: ignore[operator,union-attr]
    assert module(torch.randn(4, 2, 3, 3)).isfinite().all()


def test_a_layer_scale_divides() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(LayerScaling(8.0)(x), x / 8)


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


def test_level_norm_keeps_one_byte_per_value() -> None:
    norm = build_norm(nn.BatchNorm2d(4), LevelNorm(Levels(4)), "norm", Clock())
    with noting_kept() as kept:
        norm(torch.randn(8, 4, 5, 5, requires_grad=True))
    assert max(t.numel() * t.element_size() for t in kept) == 8 * 4 * 5 * 5


@pytest.mark.parametrize(
    "spec", [RangeNorm(momentum=1.0), DirectNorm(momentum=1.0), BatchRenorm(momentum=1.0)], ids=str
)
def test_inference_with_the_last_batch_repeats_training(spec: Norm) -> None:
    """With weight 1 on the new statistics, evaluation normalises exactly as the last training batch was."""
    module = build_norm(nn.BatchNorm2d(3), spec, "norm", Clock())
    x = torch.randn(8, 3, 4, 4)
    trained = module(x).detach()
    module.eval()
    assert torch.allclose(module(x), trained, atol=1e-5)  # one multiplication in another order


@pytest.mark.parametrize("value", [0.1, 0.7, -3.3])
@pytest.mark.parametrize("rows", [3, 45, 100])
def test_a_channel_of_one_value_passes_no_more_than_the_centred_gradient(rows: int, value: float) -> None:
    """Whose mean in float32 may differ from the value by a rounding, which is no deviation."""
    norm = build_norm(nn.BatchNorm1d(1), DirectNorm(), "norm", Clock())
    x = torch.full((rows, 1), value, requires_grad=True)
    gradient = torch.rand(rows, 1, generator=torch.Generator().manual_seed(0))
    norm(x).backward(gradient)
    expected = (gradient - gradient.mean()) * 2.0**15  # 1 / eps
    assert x.grad is not None
    assert torch.allclose(x.grad, expected, rtol=0, atol=0.05)  # float32: of up to 2^15
