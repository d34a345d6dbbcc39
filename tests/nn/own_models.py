"""Recipes, and modules that are not PyTorch's own, for tests of models that are not made of qbench's blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from qbench import Recipe, Symmetric, find_method
from qbench.quant.formats import Affine
from qbench.recipe import BatchRenorm

NEAREST = Recipe(weight=Symmetric(8), activation=Affine(8), error=Symmetric(8))
RECIPES = {
    **{name: find_method(name).build({}) for name in ("banner8", "wageubn", "graham", "sr", "fixed_point")},
    "renorm": Recipe(weight=Symmetric(8), activation=Affine(8), norm=BatchRenorm()),
}


class Standardized(nn.Conv2d):
    """Computes with another weight than the one it holds."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight - self.weight.mean(), self.bias)


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(super().forward(x))
