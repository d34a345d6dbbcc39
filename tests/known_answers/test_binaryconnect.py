"""BinaryConnect (Courbariaux, Bengio, David 2015, arXiv:1511.00363; authors' code: GitHub, MatthieuCourbariaux/
BinaryConnect, 58c9c1b and later): binarisation, learning-rate scaling, clipping, re-derived in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.clock import tensor_id
from qbench.nn.layers import QuantizedLayer, glorot_coefficient
from qbench.optim import build_optimizer
from qbench.quant.formats import Binary
from qbench.quant.quantize import quantize
from qbench.train.settings import OptimizerSettings

Array = NDArray[np.float64]
BINARYCONNECT = find_method("binaryconnect")
SGD = OptimizerSettings(name="sgd", lr=2.0**-12, momentum=0.0)


def hard_sigmoid(x: Array) -> Array:
    return np.clip((x + 1) / 2, 0, 1)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_binarisation(scale: float) -> None:
    """Section 2.3: the sign with +1 for 0, or +1 with probability clip((w + 1) / 2, 0, 1); times the scale."""
    w = torch.cat([torch.randn(4000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, -0.0, 1.0, -1.0])])
    w *= scale
    exact = w.double().numpy()
    got = quantize(w, Binary(scale), Key(0, 0, 0)).dequantize().double().numpy()
    assert np.array_equal(got, np.where(exact >= 0, scale, -scale))
    key = Key(1, 2, 3)
    got = quantize(w, Binary(scale, "stochastic"), key).dequantize().double().numpy()
    drawn = uniforms(4004, key) < hard_sigmoid(exact / scale)
    assert np.array_equal(got, np.where(drawn, scale, -scale))


@pytest.mark.parametrize(
    ("value", "share"), [(-1.0, 0.0), (-0.5, 0.25), (0.0, 0.5), (0.25, 0.625), (1.0, 1.0), (3.0, 1.0)]
)
def test_probability_of_plus_one(value: float, share: float) -> None:
    """Five standard errors of 40,000 draws."""
    drawn = quantize(torch.full((40_000,), value), Binary(1.0, "stochastic"), Key(4, 5, 6)).codes
    assert float((drawn == 1).float().mean()) == pytest.approx(share, abs=5 * (share * (1 - share) / 40_000) ** 0.5)


LAYERS = {  # shape [out, in] or [out, in, k, k]: c = sqrt(1.5 / (n_in + n_out)), n with the kernel's area
    (1024, 784): (1.5 / 1808) ** 0.5,
    (10, 1024): (1.5 / 1034) ** 0.5,
    (128, 3, 3, 3): (1.5 / (9 * 131)) ** 0.5,
    (512, 256, 3, 3): (1.5 / (9 * 768)) ** 0.5,
    (1024, 8192): (1.5 / 9216) ** 0.5,
}


@pytest.mark.parametrize(("shape", "c"), LAYERS.items(), ids=str)
def test_glorot_coefficient(shape: tuple[int, ...], c: float) -> None:
    """Of the authors' layers for MNIST and CIFAR-10."""
    assert glorot_coefficient(torch.empty(shape)) == pytest.approx(c, rel=1e-12)


def layer_of(settings: OptimizerSettings, **options: object) -> tuple[Converted, QuantizedLayer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    recipe = BINARYCONNECT.build(options)
    converted = convert(nn.Sequential(nn.Linear(30, 20, bias=False)), recipe, seed=3)
    optimizer = build_optimizer(converted, recipe, settings)
    layer = converted.model[0]  # type: ignore[index]
    assert isinstance(layer, QuantizedLayer)
    return converted, layer, optimizer


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_learning_rate_scaling(name: str) -> None:
    """W_LR_scale of the code: 1 / c on Adam's steps, whose size does not depend on the gradient's; 1 / c^2 on SGD's,
    from the equivalence with binary values +-c and plain steps."""
    settings = OptimizerSettings(name=name, lr=0.003, momentum=0.0 if name == "sgd" else 0.9)  # type: ignore[arg-type]
    c = (1.5 / 50) ** 0.5
    _, _, optimizer = layer_of(settings)
    assert optimizer.param_groups[0]["base_lr"] == pytest.approx(0.003 / c ** (2 if name == "sgd" else 1))
    for scale in ("glorot", "none"):
        _, _, optimizer = layer_of(settings, scale=scale)
        assert optimizer.param_groups[0]["base_lr"] == pytest.approx(0.003)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_training_of_a_layer(rounding: str) -> None:
    """Steps of w <- clip(w - s^2 lr dC/dw_b, -1, 1), the gradient that of the binary weights in use, passed on as it
    is: one draw per step for forward and backward. Float32 sums: 1e-5."""
    converted, layer, optimizer = layer_of(SGD, rounding=rounding)
    w = layer.weight.detach().double().numpy()
    rate = float(SGD.lr) * 50 / 1.5
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        converted.clock.step = step
        x = torch.randn(16, 30, generator=generator).requires_grad_()
        upstream = torch.randn(16, 20, generator=generator) * 30
        draws = uniforms((20, 30), Key(3, tensor_id("0/weight"), step))
        # A draw within float32's rounding of the probability could go either way: there is none here.
        binary = np.where(draws < hard_sigmoid(w) if rounding == "stochastic" else w >= 0, 1.0, -1.0)
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["base_lr"]
        y = converted.model(x)
        y.backward(upstream)
        assert np.abs(y.detach().double().numpy() - x.detach().double().numpy() @ binary.T).max() < 1e-4
        assert x.grad is not None
        assert np.abs(x.grad.double().numpy() - upstream.double().numpy() @ binary).max() < 1e-3
        optimizer.step()
        optimizer.zero_grad()
        w = np.clip(w - rate * (upstream.double().numpy().T @ x.detach().double().numpy()), -1, 1)
        assert np.abs(layer.weight.detach().double().numpy() - w).max() < 1e-5
    assert 0.05 < (np.abs(w) == 1).mean() < 0.9


def test_start_has_the_spread_of_the_authors_uniform() -> None:
    """Uniform(-1, 1) has a standard deviation of 1 / sqrt(3)."""
    for scale, limit in (("unit", 1.0), ("glorot", (1.5 / 50) ** 0.5)):
        _, layer, _ = layer_of(SGD, scale=scale)
        assert float(layer.weight.detach().square().mean().sqrt()) == pytest.approx(limit / 3**0.5, rel=0.02)
        assert float(layer.weight.detach().abs().max()) <= limit + 1e-7


@pytest.mark.parametrize(("rounding", "binary"), [("nearest", True), ("stochastic", False)])
def test_weights_at_test_time(rounding: str, binary: bool) -> None:
    """The code evaluates with the signs after deterministic training, with the real-valued weights after stochastic."""
    converted, layer, _ = layer_of(SGD, rounding=rounding)
    w = layer.weight.detach()
    converted.model.eval()
    x = torch.randn(4, 30)
    expected = x @ (torch.where(w >= 0, 1.0, -1.0) if binary else w).t()
    assert torch.allclose(converted.model(x), expected, atol=1e-5)
