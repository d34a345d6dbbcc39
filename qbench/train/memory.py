"""How many bytes a training step holds: live tensor storage, counted.

CUDA has counters of its own; on the CPU every storage that an operator takes or returns is registered
when it first appears and subtracted when it dies.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

CPU_METHOD = (
    "live tensor storage on the CPU, counted: the storages of parameters, buffers, gradients, optimiser state, the "
    "batch, and every tensor that an operator takes or returns, each from when it first appears until it is freed; a "
    "sum of gradients that autograd writes over one of its terms takes that term's place; "
    "not counted: scratch memory inside an operator or in NumPy code, the allocator's rounding and cache, Python's own "
    "memory"
)
CUDA_METHOD = (
    "torch.cuda.max_memory_allocated: bytes of PyTorch's caching allocator in use, operators' workspaces included; "
    "not counted: the CUDA context, the allocator's free cache, memory allocated by other libraries"
)


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of live tensor storages while it is active.

    live_bytes: now. peak_bytes: the largest live_bytes since the start or the last :meth:`reset_peak`.
    A storage shared by several tensors (views, in-place results) counts once, with its full size. Tensor subclasses
    that wrap other tensors count by what they wrap. Also sees the operators of a backward pass, custom autograd
    functions included, because autograd runs CPU nodes in the calling thread, under the caller's modes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._live: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        # A sum of gradients: it is counted at the next operator, when the terms are gone that nobody else holds.
        self._pending: Callable[[], torch.UntypedStorage | None] = _nothing

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        self.peak_bytes = self.live_bytes

    def watch(self, tree: object) -> None:
        """Register the storages of all tensors in nested sequences, mappings and dataclasses."""
        for tensor in plain_tensors(tree):
            self._watch_storage(tensor.untyped_storage())
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and register what goes in and what comes out."""
        if any(_redispatches(kind) for kind in types):
            # The subclass unpacks itself and calls operators on its parts, which come back here one by one.
            return NotImplemented
        self._count_pending()
        self.watch((args, kwargs))
        result = func(*args, **(kwargs or {}))
        if _joins_gradients(func):
            self._pending = weakref.ref(result.untyped_storage())
        else:
            self.watch(result)
        return result

    def __exit__(self, *exception: Any) -> None:
        self._count_pending()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def _count_pending(self) -> None:
        storage = self._pending()
        if storage is not None:
            self._watch_storage(storage)
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._pending = _nothing

    def _watch_storage(self, storage: torch.UntypedStorage) -> None:
        # PyTorch keeps one Python object per storage for as long as the storage lives, held by Python or not,
        # so its identity is the storage's and its death is the memory's.
        key = id(storage)
        known = self._live.get(key)
        size = storage.nbytes()
        if known is not None and known[1] == size:
            return
        reference = known[0] if known else weakref.ref(storage, lambda _, key=key: self._forget(key))  # type: ignore[misc]
        self.live_bytes += size - (known[1] if known else 0)
        self._live[key] = (reference, size)

    def _forget(self, key: int) -> None:
        _, size = self._live.pop(key)
        self.live_bytes -= size


def _joins_gradients(func: Callable[..., Any]) -> bool:
    """Whether autograd itself, which called this operator, adds the gradients of a tensor that several nodes used.

    It writes such a sum over a term that nobody else holds, but not while a dispatch mode, such as ours, is active.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith(("_compile.py", "eval_frame.py")):
        frame = frame.f_back
    return func is torch.ops.aten.add.Tensor and frame is not None and frame.f_code.co_name == "_engine_run_backward"


def _nothing() -> None:
    return None


def peak_step_bytes(step: Callable[[], object], held: Iterable[object]) -> int:
    """Peak live bytes within one call of ``step`` on the CPU. held: the tensors that exist before it, in any
    nesting: model, optimiser state, batch.

    ``step`` runs twice and the second run counts, when gradients and whatever a method keeps between steps exist.
    """
    with StorageTracker() as tracker:
        tracker.watch(list(held))
        step()
        tracker.reset_peak()
        step()
    peak: int = tracker.peak_bytes
    return peak


def peak_step_bytes_cuda(step: Callable[[], object], device: torch.device) -> int:
    """Peak allocated bytes within one call of ``step`` on a CUDA device; ``step`` runs twice, the second counts."""
    step()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def saved_bytes(forward: Callable[[], Tensor], state: Iterable[Tensor]) -> int:
    """Bytes kept for the backward pass of one ``forward``, which returns the loss: the unique storages of the tensors
    that autograd saves and of those that custom autograd functions keep as attributes.

    state: parameters and buffers, which exist anyway and do not count. The input batch counts once if it is saved.
    """
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tree: object) -> None:
        saved.update((id(storage), storage) for storage in map(Tensor.untyped_storage, plain_tensors(tree)))

    def pack(tensor: Tensor) -> Tensor:
        note(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    for node in nodes(loss):
        note(list(getattr(node, "__dict__", {}).values()))
    # Only now, with every storage still held in ``saved``, does an identity stand for one storage.
    exempt = {id(tensor.untyped_storage()) for tensor in plain_tensors(list(state))}
    return sum(storage.nbytes() for key, storage in saved.items() if key not in exempt)


def nodes(output: Tensor) -> Iterator[Any]:
    """The nodes of autograd's graph behind ``output``."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
            yield node


def plain_tensors(tree: object) -> Iterator[Tensor]:
    """All tensors with a storage of their own in nested sequences, mappings and dataclasses; tensor subclasses that
    wrap tensors are replaced by their parts."""
    if isinstance(tree, Tensor):
        yield from _unwrapped(tree)
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from plain_tensors(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from plain_tensors(value)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for field in fields(tree):
            yield from plain_tensors(getattr(tree, field.name))


def _unwrapped(tensor: Tensor) -> Iterator[Tensor]:
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from plain_tensors(getattr(tensor, name))
    elif tensor.layout is torch.strided and tensor.device.type != "meta":
        yield tensor


def _redispatches(kind: type) -> bool:
    own = getattr(kind, "__torch_dispatch__", None)
    return own not in (None, Tensor.__torch_dispatch__, torch._C._disabled_torch_dispatch_impl)
