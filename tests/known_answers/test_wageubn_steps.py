"""Whole training steps of WAGEUBN on a residual network, against a derivation in float64 by automatic differentiation.

Every Q passes gradients on unchanged; E1 and E2 are identities whose gradients are quantised; the stem, the classifier
and the residual stream are float (Yang, Deng, Wu, Yan, Xie, Li 2020, arXiv:1909.02384; authors' code).
"""

from __future__ import annotations

import torch
from arithmetics import both_arithmetics
from residual_net import Reference, ResidualNet, digit_batches, logits_of, through, train_step
from torch import Tensor
from torch.nn import functional
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.nn import Converted, convert
from qbench.nn.clock import tensor_id
from qbench.optim import build_optimizer
from qbench.recipe import Arithmetic
from qbench.train.settings import OptimizerSettings

SEED, STEPS = 3, 12
DECAY = 0.01
RATE, RATE_10 = 0.05, 26 / 512
"""Of float layers, and on 10 bits."""

FLOAT = ("stem.conv", "classifier")


def q(x: Tensor, k: int) -> Tensor:
    return torch.round(x * 2.0 ** (k - 1)) / 2.0 ** (k - 1)


def scale(x: Tensor) -> float:
    """R."""
    return 2.0 ** round(float(x.abs().max().log2()))


def shifted(x: Tensor, k: int) -> Tensor:
    """SQ, clipped as in the paper."""
    limit = 1 - 2.0 ** (1 - k)
    return scale(x) * q(x / scale(x), k).clamp(-limit, limit)


def flagged(x: Tensor, k: int) -> Tensor:
    """Flag-Q."""
    unit = scale(x) / 2 ** (k - 1)
    y = x / unit
    large = y.round().clamp(1 - 2 ** (k - 1), 2 ** (k - 1) - 1)
    return unit * torch.where(y.abs() >= 1, large, q(y, k))


def straight(x: Tensor, k: int) -> Tensor:
    """Q with the gradient of the identity."""
    return through(x, lambda x: q(x, k))


def on_8_bits(x: Tensor) -> Tensor:
    """An activation for layers to read; E1 comes back, of all of them together."""
    return through(x, lambda x: q(x, 8), lambda gradient: shifted(gradient, 8))


def product(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """The convolution of 8-bit operands; E2 goes into both of its gradients."""
    limit = 1 - 2.0**-7
    w = through(weight, lambda w: q(w, 8).clamp(-limit, limit))
    z = functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
    return through(z, backward=lambda gradient: flagged(gradient, 8))


def norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    deviation = (x - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
    xhat = straight((x - straight(mean, 16)) / (straight(deviation, 16) + 2.0**-15), 8)
    return xhat * straight(gamma, 8).view(-1, 1, 1) + straight(beta, 8).view(-1, 1, 1)


class WageubnNet(Reference):
    """The network with the parameters ``p``."""

    def __init__(self, p: dict[str, Tensor]) -> None:
        self.p = p

    def normalised(self, x: Tensor, name: str, stride: int) -> Tensor:
        weight, gamma, beta = (self.p[f"{name}.{part}"] for part in ("conv.weight", "norm.weight", "norm.bias"))
        z = functional.conv2d(x, weight, padding=1) if name == "stem" else product(x, weight, stride)
        return norm(z, gamma, beta)

    def end(self, y: Tensor, name: str, *, to_trunk: bool) -> Tensor:
        return y if to_trunk else on_8_bits(y)

    def branch(self, x: Tensor, name: str) -> Tensor:
        return on_8_bits(x)

    def classifier(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])


def parameters(converted: Converted) -> dict[str, Tensor]:
    """Those of a converted model in float64, integers as what they stand for."""
    found = {name: p.detach().double() for name, p in converted.model.named_parameters()}
    for name, layer in converted.layers():
        if getattr(layer, "master", None) is not None:
            found[f"{name}.weight"] = layer.master.dequantize().double()  # type: ignore[union-attr,operator]
    return found


def moved(name: str, p: Tensor, accumulator: Tensor, step: int) -> Tensor:
    """A parameter behind the step from its gradient and what it accumulated: Acc = Q(Acc, 13) / 4 + G, and P - lr Acc;
    without the roundings where it is of a float layer."""
    assert p.grad is not None
    gradient = p.grad if "norm" in name or "bias" in name else p.grad + DECAY * p.detach()
    if name.startswith(FLOAT):
        return p.detach() - RATE * (accumulator / 4 + gradient)
    if "norm" in name:
        gradient = q(gradient, 15)
    else:
        v = 128 * gradient / scale(gradient)  # dr at the beginning of a training
        draws = torch.from_numpy(uniforms(tuple(p.shape), Key(SEED, tensor_id(f"{name}/gradient"), step)))
        gradient = (v.floor() + (draws < v - v.floor())).clamp(-127, 127) / 2.0**14
    return p.detach() - RATE_10 * (q(accumulator, 13) / 4 + gradient)


@both_arithmetics
def test_training_of_a_residual_network(arithmetic: Arithmetic) -> None:
    """Each step from where the last one led. The model's float32 and the derivation's float64 sums differ by 1e-7 of
    their size, which in some steps moves a value across a boundary, and with it, by a power of two, what is scaled
    by the largest: all integers are equal in the others. Another formula leaves one or none."""
    torch.manual_seed(0)
    recipe = find_method("wageubn").build({})
    converted = convert(ResidualNet(), recipe, seed=SEED, arithmetic=arithmetic)
    settings = OptimizerSettings(name="sgd", lr=0.1, momentum=0.0, weight_decay=DECAY)
    optimizer = build_optimizer(converted, recipe, settings)
    converted.clock.total_steps = 100
    now = parameters(converted)
    accumulators = {name: torch.zeros_like(p) for name, p in now.items()}
    num_equal = 0
    for step, x, y in digit_batches(STEPS):
        train_step(converted, optimizer, step, x, y)
        before, now = {name: p.requires_grad_() for name, p in now.items()}, parameters(converted)
        functional.cross_entropy(logits_of(WageubnNet(before), x.double()), y).backward()
        num_equal += all(
            torch.allclose(now[name], expected, rtol=0, atol=1e-6 if name.startswith(FLOAT) else 0)
            for name, expected in ((name, moved(name, p, accumulators[name], step)) for name, p in before.items())
        )
        accumulators = {
            name: (p.detach() - now[name]) / (RATE if name.startswith(FLOAT) else RATE_10) for name, p in before.items()
        }
    assert num_equal >= STEPS // 3
