"""ReLU in a converted block that is no single node of the graph: which form keeps least for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qbench.kernels.packing import pack_bits
from qbench.kernels.passes import apply_mask
from qbench.nn.kept import keep, kept
from qbench.nn.once import differentiable_once
from qbench.nn.site import apply_function
from qbench.recipe import Recipe


def relu_for(recipe: Recipe, norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """The ReLU of a block of ``recipe`` behind ``norm``, of whose output nothing else needs the values.

    Where the next layer keeps codes, the output would be kept for its signs alone: bits say the same. Where it keeps
    the output, that serves both, and as in a float block it takes the place of the input, which a float norm does not
    read again.
    """
    if recipe.activation is not None:
        return relu_keeping_bits
    is_plain = isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and recipe.norm_error is None
    return torch.relu_ if is_plain else torch.relu


def relu_keeping_bits(x: Tensor) -> Tensor:
    """max(x, 0), x float32 [N, C] or [N, C, H, W]; one bit per value is kept for backward."""
    return apply_function(_ReLU, x) if torch.is_grad_enabled() else torch.relu(x)


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value = torch.relu(x)
        keep(ctx, [], [pack_bits((value != 0).view(torch.uint8), 1)])  # NaN passes its gradient, as in PyTorch
        return value

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        _, (mask,) = kept(ctx)
        return apply_mask(grads[0], mask)[0]
