"""Gradients that cannot be differentiated again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

Backward = TypeVar("Backward", bound=Callable[..., Any])


def differentiable_once(backward: Backward) -> Backward:
    """``backward`` of a node of the graph, which raises RuntimeError where PyTorch would record it.

    It computes with codes, through which no derivative goes: a second one would lack terms and say nothing.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph asks for it
            raise RuntimeError("a converted model has no second derivatives: leave create_graph out")
        return backward(ctx, *grads)

    return cast(Backward, checked)
