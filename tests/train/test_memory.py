"""The memory tracker against byte counts worked out by hand."""

from __future__ import annotations

import gc
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from qbench.quant.formats import Symmetric
from qbench.quant.qtensor import QTensor
from qbench.train.memory import StorageTracker, peak_step_bytes, saved_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT = 4


def test_a_tensor_counts_from_birth_to_death() -> None:
    with StorageTracker() as tracker:
        a = torch.zeros(100)
        b = torch.zeros(50, dtype=torch.float64)
        assert tracker.live_bytes == 100 * FLOAT + 50 * 8
        del a
        assert tracker.live_bytes == 50 * 8
        del b
    assert (tracker.live_bytes, tracker.peak_bytes) == (0, 100 * FLOAT + 50 * 8)


def test_views_and_in_place_results_share_one_storage() -> None:
    with StorageTracker() as tracker:
        a = torch.zeros(100)
        view = a[:10].view(2, 5)
        view.add_(1)
        del a
        assert tracker.live_bytes == 100 * FLOAT, "a view keeps the whole storage alive"
        del view
    assert tracker.live_bytes == 0


def test_a_resized_storage_counts_with_its_new_size() -> None:
    a = torch.zeros(10)
    with StorageTracker() as tracker:
        tracker.watch(a)
        a.resize_(100)
        a.add_(1)
        assert tracker.live_bytes == 100 * FLOAT


def test_the_peak_holds_what_was_live_at_one_time() -> None:
    with StorageTracker() as tracker:
        a = torch.zeros(100)
        del a
        b = torch.zeros(60)
        c = torch.zeros(70)
        del b, c
    assert tracker.peak_bytes == 130 * FLOAT


def test_reset_peak_starts_from_what_is_live() -> None:
    with StorageTracker() as tracker:
        a = torch.zeros(100)
        b = torch.zeros(10)
        del a
        tracker.reset_peak()
        assert tracker.peak_bytes == 10 * FLOAT
    del b


def test_watched_tensors_count_once_in_any_nesting() -> None:
    a, b, c = torch.zeros(3), torch.zeros(5), torch.zeros(7)
    with StorageTracker() as tracker:
        tracker.watch([a, {"state": (b, [a, c.view(7, 1)])}, None, "text"])
        assert tracker.live_bytes == 15 * FLOAT
        q = QTensor(torch.zeros(11, dtype=torch.int8), a[0], None, Symmetric(8))
        tracker.watch((q, QTensor))
        assert tracker.live_bytes == 15 * FLOAT + 11


class _Scratch(torch.autograd.Function):
    """x -> 2x; its backward makes a float64 temporary that nobody outside sees."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        return grads[0].to(torch.float64).mul_(2).float()


def test_tensors_made_inside_a_custom_backward_count() -> None:
    x = torch.zeros(1000, requires_grad=True)
    upstream = torch.zeros(1000)
    y = _Scratch.apply(x)
    with StorageTracker() as tracker:
        tracker.watch((x, y, upstream))
        y.backward(upstream)
    # x, y, the gradient that comes in, its float64 copy and the float32 result
    assert tracker.peak_bytes == 1000 * (3 * FLOAT + 8 + FLOAT)


def test_saved_tensors_are_released_as_backward_passes_them() -> None:
    x = torch.zeros(1000, requires_grad=True)
    with StorageTracker() as tracker:
        loss = x.exp().exp().sum()
        # x, both results (saved by exp), the scalar
        assert tracker.live_bytes == 3 * 1000 * FLOAT + FLOAT
        loss.backward()
        del loss
        assert tracker.live_bytes == 2 * 1000 * FLOAT, "x and its gradient are left"


class _Pair(Tensor):
    """A wrapper subclass of two payloads, float32 to the outside."""

    codes: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, codes: Tensor, scale: Tensor) -> _Pair:
        return Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["codes", "scale"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], *_: object) -> _Pair:
        return _Pair(parts["codes"], parts["scale"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        plain = [a.codes.float() * a.scale if isinstance(a, _Pair) else a for a in args]
        return func(*plain, **(kwargs or {}))


def test_a_wrapper_subclass_counts_by_its_payload() -> None:
    pair = _Pair(torch.zeros(100, dtype=torch.int8), torch.ones(()))
    with StorageTracker() as tracker:
        tracker.watch(pair)
        assert tracker.live_bytes == 100 + FLOAT
        y = pair + 1
        # while the sum is formed: payload, the float of the codes, the float times the scale, the result
        assert tracker.peak_bytes <= 100 + FLOAT + 3 * 100 * FLOAT
        assert tracker.peak_bytes >= 100 + FLOAT + 2 * 100 * FLOAT
    assert y.shape == (100,)


def _two_layers() -> tuple[nn.Sequential, torch.optim.SGD, Tensor]:
    net = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 40, bias=False))
    return net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), torch.randn(8, 20)


def test_the_peak_is_that_of_the_second_step() -> None:
    """A first step may make what is kept, as optimisers do, and need memory of its own for it."""
    sizes = iter([1000, 10])
    assert peak_step_bytes(lambda: torch.zeros(next(sizes)), []) == 10 * FLOAT


def test_peak_of_a_two_layer_step() -> None:
    """Worked out by hand: x [8, 20], h [8, 30], y [8, 40], weights [30, 20] and [40, 30]."""
    net, optimizer, x = _two_layers()
    net(x).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        net(x).sum().backward()
        optimizer.step()

    peak = peak_step_bytes(step, [x, *net.parameters(), *optimizer.state.values()])
    weights = 30 * 20 + 40 * 30
    # At the end of backward: x; weights, momentum, both gradients. Of the activations, h is freed once the second
    # layer's weight gradient is made, its gradient once the first layer's is: the largest moment is there.
    held = 8 * 20 + 2 * weights
    first_weight_grad = held + weights + 8 * 30
    loss_and_its_gradient = 2
    assert peak == FLOAT * (first_weight_grad + loss_and_its_gradient)


class Heads(nn.Module):
    """Two frozen layers that read one tensor and keep nothing: the peak is where its gradients meet, which autograd
    adds in place unless a dispatch mode is active."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(width, 4).requires_grad_(False) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [N, width] -> [N, 4]."""
        return torch.stack([head(x) for head in self.heads]).sum(0)


PLAIN = (nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


@pytest.mark.parametrize("layers", [PLAIN, (nn.Linear(64, 512), Heads(512))], ids=["plain", "joined"])
def test_the_peak_is_close_to_what_the_allocator_reports(layers: tuple[nn.Module, ...]) -> None:
    """An independent count: the profiler's record of every allocation (which sees operators' scratch too)."""
    net = nn.Sequential(*layers)
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    x, labels = torch.randn(512, 64), torch.zeros(512, dtype=torch.int64)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    step()
    held = [x, labels, *net.parameters(), *net.buffers(), *optimizer.state.values()]
    tracked = peak_step_bytes(step, held)
    optimizer.zero_grad(set_to_none=True)
    gc.collect()
    base = sum(t.untyped_storage().nbytes() for t in [x, labels, *net.parameters()]) + sum(
        s["momentum_buffer"].untyped_storage().nbytes() for s in optimizer.state.values()
    )
    allocated = base + _profiled_peak(step)
    assert tracked == pytest.approx(allocated, rel=0.02)  # the allocator rounds up to 64 bytes; operators use scratch


def _profiled_peak(step: Callable[[], None]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    assert recorded.profiler is not None
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes))


def test_saved_bytes_of_a_two_layer_net() -> None:
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 40))
    x = torch.randn(8, 20)
    # x for the first weight gradient; relu's result, saved by relu and by the second layer, once
    assert saved_bytes(lambda: net(x).sum(), net.parameters()) == FLOAT * (8 * 20 + 8 * 30)


def test_saved_bytes_leave_out_buffers() -> None:
    norm = nn.BatchNorm1d(16)
    x = torch.randn(8, 16, requires_grad=True)
    saved = saved_bytes(lambda: norm(x).sum(), [*norm.parameters(), *norm.buffers()])
    assert saved == FLOAT * (8 * 16 + 2 * 16), "x, the batch's mean and its inverse deviation"


class _KeepsAttributes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.codes = [x.to(torch.int8), {"mask": x > 0}]
        return x * 1

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return grads[0]


def test_saved_bytes_see_attributes_of_custom_functions() -> None:
    x = torch.zeros(100, requires_grad=True)
    assert saved_bytes(lambda: _KeepsAttributes.apply(x).sum(), [x]) == 100 + 100
