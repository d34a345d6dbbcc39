"""What all fused blocks share: the modules that they are made of, and how they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from qbench.nn.layers import QuantizedLayer
from qbench.nn.site import Site
from qbench.recipe import Recipe


@dataclass(frozen=True)
class BlockParts:
    """The modules of a converted block, and the recipes that they follow.

    recipe: of the model. layer_recipe: of the block's convolution or linear layer, which may be kept in float.
    norm_error, branch_error, trunk: their sites, or nn.Identity where the recipe has no format for them. output: the
    site of the block's output, where that is an activation already. relu: whether the block ends in a ReLU.
    """

    recipe: Recipe
    layer_recipe: Recipe
    layer: QuantizedLayer
    norm: nn.Module
    norm_error: nn.Module
    branch_error: nn.Module
    trunk: nn.Module
    output: Site | None
    relu: bool


class FusedBlock(Protocol):
    """A block computed by nodes of its own in place of its modules."""

    @property
    def serves(self) -> bool:
        """Whether it can stand for the modules now: it may be for training, or while nobody looks at floats."""

    def __call__(self, x: Tensor, trunk: Tensor | None) -> Tensor:
        """x [N, C_in, H, W] or [N, C_in] -> the block's output; ``trunk`` (of its shape) is added before the ReLU."""
