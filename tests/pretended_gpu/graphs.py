"""CUDA graphs on a pretended GPU: operators are noted while they are captured, and run again on the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from qbench.kernels.random import elapsed, steps_elapsed

WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
"""Operators whose results the host reads, or whose results' shapes."""


def waits(func: Any, args: Any, kwargs: Any, result: Any) -> bool:
    """Whether an operator makes the host wait: it reads a value, or copies between host and device."""
    name, found = func.overloadpacket.__name__, tensors((args, kwargs, result))
    if name == "lift_fresh":  # all that shows of torch.tensor(..., device="cuda") and of indices in a list
        return result.device.type != "cpu"
    is_masked = "index" in name and any(x.dtype == torch.bool for x in found)
    # A number on the host is an argument of a launch, unless it is copied.
    is_copied = len({x.device for x in found if x.dim() or x is result or name == "copy_"}) > 1
    return is_copied or is_masked or name in WAITS


class Graph:
    """Stands for torch.cuda.CUDAGraph. As there, what the host decides is decided at the capture, tensors lie where
    they lay, and the capture itself changes nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.count: Tensor | None = None

    @torch.no_grad()
    def replay(self) -> None:
        with nullcontext() if self.count is None else steps_elapsed(self.count):
            for func, args, kwargs, kept in self.calls:
                for place, value in zip(kept, tensors(func(*args, **kwargs)), strict=True):
                    if place.data_ptr() != value.data_ptr():
                        place.copy_(value)


class Capture(TorchDispatchMode):
    """Notes what is called within, and takes back what it writes to memory from before.

    What is noted stays, so that no memory is used twice. Raises RuntimeError where the host would wait, which CUDA
    permits as little.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._new: set[int] = set()
        self._saved: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if _writes(argument):
                self._saved += [(x, x.clone()) for x in tensors(value) if self._memory(x) not in self._new]
        result = func(*args, **kwargs)
        if waits(func, args, kwargs, result):
            raise RuntimeError(f"{func} is not permitted while a stream is captured")
        used = set(map(self._memory, tensors([args, kwargs])))
        self._new |= {self._memory(x) for x in tensors(result)} - used
        # Where all lies now: a tensor may later be given another shape.
        args, kwargs, kept = tree_map_only(Tensor, Tensor.detach, (args, kwargs, tensors(result)))
        self.graph.calls.append((func, args, kwargs, kept))
        return result

    @staticmethod
    def _memory(x: Tensor) -> int:
        return x.untyped_storage().data_ptr()  # of all storages, views have some of their own on this device

    def take_back(self) -> None:
        for place, value in reversed(self._saved):
            place.copy_(value)


@contextmanager
def capture(graph: Graph, stream: object = None) -> Iterator[None]:
    """Stands for torch.cuda.graph."""
    graph.count, noted = elapsed(), Capture(graph)
    with noted:
        yield
    with torch.no_grad():
        noted.take_back()


class Stream:
    """Stands for torch.cuda.Stream."""

    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass


def _writes(argument: torch.Argument) -> bool:
    """PyTorch's batch norm moves its running statistics, though its schema does not say so."""
    is_marked = argument.alias_info is not None and argument.alias_info.is_write
    return is_marked or argument.name.startswith("running_")


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


CUDA = {
    "CUDAGraph": Graph, "graph": capture, "Stream": Stream, "current_stream": Stream,
    "stream": lambda stream: nullcontext(),
}  # fmt: skip
"""What of torch.cuda this stands for."""
