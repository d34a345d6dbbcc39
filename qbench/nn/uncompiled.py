"""Modules that torch.compile leaves as they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from qbench.nn.deferred import materialised

Forward = TypeVar("Forward", bound=Callable[..., Any])

# PyTorch has no public question for it; without the private one, code whose compilation was given up is not recognised.
_compiler: Callable[[], object] = getattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback", lambda: None)


def uncompiled(forward: Forward) -> Forward:
    """``forward`` of a module that quantises. Compiled code breaks off for its call and gets a plain tensor: tracing
    can neither look into the kernels nor carry what a deferred activation knows."""

    @torch.compiler.disable
    def plain(self: Any, *args: Any, **options: Any) -> Any:
        return materialised(forward(self, *args, **options))

    @wraps(forward)
    def chosen(self: Any, *args: Any, **options: Any) -> Any:
        is_compiled = torch.compiler.is_dynamo_compiling() or _compiler() is not None
        return plain(self, *args, **options) if is_compiled else forward(self, *args, **options)

    return cast(Forward, chosen)
