"""Whole training steps of Banner's method on a residual network, against a derivation in float64 by automatic
differentiation (Banner, Hubara, Hoffer, Soudry 2018, arXiv:1805.11046, sections 3 and 4).

Every operand of a product and every input of a norm is rounded to 8 bits, the first and the last layer's too; gradients
pass such roundings unchanged. Gradients are rounded at random at the norms' outputs and, where they are multiplied by
weights, at the layers' outputs; where they are multiplied by inputs they are not.
"""

from __future__ import annotations

import math

import pytest
import torch
from arithmetics import both_arithmetics
from residual_net import Reference, ResidualNet, digit_batches, logits_of, through, train_step
from torch import Tensor
from torch.nn import functional
from uniforms import uniforms

from qbench.catalog import find_method
from qbench.kernels.random import Key
from qbench.nn import convert
from qbench.nn.clock import tensor_id
from qbench.recipe import Arithmetic

SEED, STEPS, CHUNKS = 3, 12, 16
FEW = 16
"""Images of a batch: in fewer, fewer values lie where float32 and float64 may round them to two codes."""


def affine(x: Tensor, draws: Tensor | None = None) -> Tensor:
    """GEMMLOWP's 8 bits of a range that holds 0, to nearest, or up where the fraction is above what was drawn."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 2**8
    zero = min(round(-low / step), 2**8 - 1)
    codes = x / step + zero
    codes = codes.round() if draws is None else codes.floor() + (draws < codes - codes.floor())
    return step * (codes.clamp(0, 2**8 - 1) - zero)


def straight(x: Tensor) -> Tensor:
    """On 8 bits, with the gradient of the identity."""
    return through(x, affine)


class BannerNet(Reference):
    """The network with the parameters ``p``."""

    def __init__(self, p: dict[str, Tensor], step: int) -> None:
        self.p, self.step = p, step

    def random(self, x: Tensor, name: str) -> Tensor:
        """``x``, whose gradient is rounded to 8 bits at random."""

        def rounded(gradient: Tensor) -> Tensor:
            draws = uniforms(tuple(gradient.shape), Key(SEED, tensor_id(name), self.step))
            return affine(gradient, torch.from_numpy(draws))

        return through(x, backward=rounded)

    def product(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """Bifurcated: the authors' A + B - stopgrad(A)."""
        x, w = straight(x), straight(self.p[f"{name}.weight"])

        def layer(x: Tensor, w: Tensor) -> Tensor:
            if w.dim() == 2:
                return functional.linear(x, w)
            return functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)

        a, b = layer(x.detach(), w), layer(x, w.detach())
        return a + self.random(b, f"{name}/error") - a.detach()

    def norm(self, y: Tensor, name: str) -> Tensor:
        """Range norm with the code's constant and chunks."""
        n, c, h, w = y.shape
        rows = straight(y).permute(0, 2, 3, 1).reshape(CHUNKS, -1, c)
        numerator = 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4)))
        kappa = numerator / math.sqrt(2 * math.log(rows.shape[1]))
        spread = kappa * (rows.max(1).values - rows.min(1).values).mean(0) + 1e-5
        normalised = (rows - rows.mean((0, 1))) / spread * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]
        return normalised.view(n, h, w, c).permute(0, 3, 1, 2)

    def normalised(self, x: Tensor, name: str, stride: int) -> Tensor:
        return self.random(self.norm(self.product(f"{name}.conv", x, stride), f"{name}.norm"), f"{name}/norm_error")

    def classifier(self, x: Tensor, name: str) -> Tensor:
        return self.product(name, x) + self.p[f"{name}.bias"]


@both_arithmetics
@pytest.mark.parametrize(("options", "tolerance"), [({"wgrad_error": "fp32"}, 1e-5), ({}, 1e-4)], ids=["fp32", "line"])
def test_training_of_a_residual_network(options: dict[str, str], tolerance: float, arithmetic: Arithmetic) -> None:
    """Each step from where the last one led: all gradients, to the ``tolerance`` that float32's sums leave (a few 1e-7,
    and 1e-5 in the classifier, whose gradient the default rounds to 16 bits). In some steps a value crosses a
    boundary between codes, and what follows is a little different; all others agree. Another formula leaves none."""
    torch.manual_seed(0)
    recipe = find_method("banner8").build(options)
    converted = convert(ResidualNet(), recipe, seed=SEED, arithmetic=arithmetic)
    model = converted.model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    num_equal = 0
    for step, many, labels in digit_batches(STEPS):
        images = many[:FEW]
        exact = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
        train_step(converted, optimizer, step, images, labels[:FEW])
        functional.cross_entropy(logits_of(BannerNet(exact, step), images.double()), labels[:FEW]).backward()
        num_equal += all(
            bool((p.grad - exact[name].grad).norm() <= tolerance * exact[name].grad.norm())  # type: ignore[operator,union-attr]
            for name, p in model.named_parameters()
        )
    assert num_equal >= STEPS // 3
