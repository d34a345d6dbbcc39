"""Range batch norm's numbers per channel: the reference against the formulas, every implementation against it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.kernels import backends
from qbench.kernels.passes import chunk_statistics
from qbench.kernels.reference import range_norm as reference

CHUNKS, CONSTANT, EPS = 4, 0.3, 1e-5
CASES = {
    "plain": {},
    "constant": {"spread": 0},
    "poisoned": {"scale": float("nan")},
    "negative slope": {"weight": -1.0},
    "one channel": {"channels": 1},
}


def case(*, spread: int = 255, scale: float = 0.02, weight: float = 1.0, channels: int = 7) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(4)
    q = (torch.rand(2, channels, 4, 6, generator=generator) * spread).to(torch.uint8)
    e = (torch.rand(2, channels, 4, 6, generator=generator) * 255).to(torch.uint8)
    q, e = (t.contiguous(memory_format=torch.channels_last) for t in (q, e))
    vector = torch.rand(channels, generator=generator) + 0.5
    return {"q": q, "e": e, "weight": weight * vector, "bias": vector - 1, "scale": torch.tensor(scale)}


def forward(module: Any, of: dict[str, Any], relu: bool) -> tuple[Tensor, ...]:
    sums, lows, highs, _, _ = chunk_statistics(of["q"], CHUNKS)
    rows = of["q"].numel() // of["q"].shape[1]
    zero = torch.tensor(100.0)
    return module.range_line(sums, lows, highs, rows, of["scale"], zero, of["weight"], of["bias"], CONSTANT, EPS, relu)


def backward(module: Any, of: dict[str, Any]) -> tuple[Tensor, ...]:
    _, _, _, low_at, high_at = chunk_statistics(of["q"], CHUNKS)
    q, e = of["q"].long(), of["e"].long()
    sums = torch.stack([e.sum((0, 2, 3)), (e * q).sum((0, 2, 3))])
    _, _, mean, inverse, *_ = forward(reference, of, relu=False)
    rows = q.numel() // q.shape[1]
    return module.range_gradient_line(
        sums, rows, torch.tensor(0.01), torch.tensor(128.0), of["scale"], mean, inverse, of["weight"], CONSTANT,
        of["e"], low_at, high_at,
    )  # fmt: skip


@pytest.mark.skipif(bool(backends.why_not("cpp")), reason="the C++ extension is missing")
@pytest.mark.parametrize("name", list(CASES))
def test_cpp_equals_the_reference(name: str) -> None:
    from qbench.kernels.cpu import range_norm as cpp

    of = case(**CASES[name])
    for relu in (False, True):
        for got, wanted in zip(forward(cpp, of, relu), forward(reference, of, relu), strict=True):
            assert torch.equal(got.nan_to_num(7.0), wanted.nan_to_num(7.0))
            assert torch.equal(got.isnan(), wanted.isnan())
    for got, wanted in zip(backward(cpp, of), backward(reference, of), strict=True):
        assert torch.equal(got.nan_to_num(7.0), wanted.nan_to_num(7.0))


def test_the_line_is_the_norm() -> None:
    of = case()
    slope, offset, *_, batch_mean, spread, extremes = forward(reference, of, relu=False)
    x = (of["q"].double() - 100) * of["scale"].double()
    rows = x.permute(0, 2, 3, 1).reshape(CHUNKS, -1, x.shape[1])
    divisor = CONSTANT * (rows.amax(1) - rows.amin(1)).mean(0) + EPS
    y = (rows - rows.mean((0, 1))) / divisor * of["weight"] + of["bias"]
    assert torch.allclose(slope * of["q"].permute(0, 2, 3, 1).reshape(rows.shape) + offset, y.float(), atol=1e-5)
    assert torch.allclose(batch_mean, rows.mean((0, 1)).float())
    assert torch.allclose(spread, divisor.float())
    assert torch.allclose(extremes, torch.stack([y.min(), y.max()]).float(), atol=1e-5)


def test_the_gradient_is_autograds() -> None:
    of = case()
    slope, offset, at, values, grad_weight, grad_bias = backward(reference, of)
    x = ((of["q"].double() - 100) * of["scale"].double()).requires_grad_()
    weight = of["weight"].double().requires_grad_()
    bias = of["bias"].double().requires_grad_()
    rows = x.permute(0, 2, 3, 1).reshape(CHUNKS, -1, x.shape[1])
    divisor = CONSTANT * (rows.max(1).values - rows.min(1).values).mean(0) + EPS
    y = (rows - rows.mean((0, 1))) / divisor * weight + bias
    upstream = (of["e"].double() - 128) * 0.01
    y.backward(upstream.permute(0, 2, 3, 1).reshape(rows.shape))
    dx = (slope * of["e"].permute(0, 2, 3, 1).float() + offset).flatten()
    dx[at] = values
    assert x.grad is not None
    wanted = x.grad.permute(0, 2, 3, 1).flatten().float()
    # Codes tie, so autograd may pick another of several equal extremes; those are left out of the comparison.
    tied = torch.isclose(dx, wanted, atol=1e-5).logical_not()
    assert int(tied.sum()) <= 4 * CHUNKS
    assert torch.allclose(dx.sum(), wanted.sum(), atol=1e-4)
    assert torch.allclose(grad_weight, weight.grad.float(), rtol=1e-5)  # type: ignore[union-attr]
    assert torch.allclose(grad_bias, bias.grad.float(), rtol=1e-5)  # type: ignore[union-attr]
