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
    can neither look into the kernels nor carry what a deferred activation knows. Where nothing can break off, it raises
    RuntimeError."""

    def plain(*args: Any, **options: Any) -> Any:
        return materialised(forward(*args, **options))

    @wraps(forward)
    def chosen(*args: Any, **options: Any) -> Any:
        is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if is_traced or torch.compiler.is_exporting():
            raise RuntimeError(
                "a converted model can be neither traced (torch.jit.trace) nor exported (torch.export): codes and "
                "random bits of the example would be constants; qbench.nn.save_checkpoint saves it for evaluation"
            )
        if torch.compiler.is_dynamo_compiling() or _compiler() is not None:
            # Made anew each time: as a decorator it would load the compiler, which takes a second, for everybody.
            return torch.compiler.disable(plain)(*args, **options)  # type: ignore[no-untyped-call]
        return forward(*args, **options)

    return cast(Forward, chosen)
