"""Batch renormalisation (Ioffe 2017, arXiv:1702.03275): Algorithm 1 in float64, and the schedule of its limits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qbench.errors import InputError
from qbench.nn.clock import Clock
from qbench.nn.norms import build_norm
from qbench.nn.norms.batch_renorm import RenormBatchNorm, limits
from qbench.recipe import BatchRenorm

SCHEDULE = [  # step, r_max, d_max: clip(2 t / 35000 + 25 / 35, 1, 3) and clip(5 t / 20000 - 25 / 20, 0, 5)
    (0, 1.0, 0.0), (5_000, 1.0, 0.0), (15_000, 1 + 20 / 35, 2.5), (25_000, 1 + 40 / 35, 5.0), (40_000, 3.0, 5.0),
    (100_000, 3.0, 5.0),
]  # fmt: skip


@pytest.mark.parametrize(("step", "r_max", "d_max"), SCHEDULE)
def test_schedule_of_the_limits(step: int, r_max: float, d_max: float) -> None:
    """1 and 0 for 5,000 steps, then linearly to 3 at 40,000 and to 5 at 25,000."""
    assert limits(BatchRenorm(), step) == pytest.approx((r_max, d_max))
    assert limits(BatchRenorm(), step)[0] == pytest.approx(min(max(2 * step / 35_000 + 25 / 35, 1), 3))
    assert limits(BatchRenorm(), step)[1] == pytest.approx(min(max(5 * step / 20_000 - 25 / 20, 0), 5))


def renorm(spec: BatchRenorm, step: int) -> RenormBatchNorm:
    module = build_norm(nn.BatchNorm2d(3), spec, "norm", Clock(step=step)).double()
    assert isinstance(module, RenormBatchNorm)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.5, 1.0, 1.5]))
        module.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
        module.running_mean.copy_(torch.tensor([0.3, -2.0, 0.0]))
        module.running_scale.copy_(torch.tensor([0.5, 4.0, 1.1]))
    return module


def sample(seed: int = 0) -> Tensor:
    return torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def algorithm(x: Tensor, module: RenormBatchNorm, r_max: float, d_max: float) -> tuple[Tensor, Tensor, Tensor]:
    """y, and the new running mean and sigma; written with differentiable operations, r and d detached."""
    mean = x.mean((0, 2, 3))
    sigma = ((x - mean.view(1, 3, 1, 1)).square().mean((0, 2, 3)) + 1e-3).sqrt()
    old_mean, old_sigma = module.running_mean.clone(), module.running_scale.clone()
    r = (sigma / old_sigma).clamp(1 / r_max, r_max).detach().view(1, 3, 1, 1)
    d = ((mean - old_mean) / old_sigma).clamp(-d_max, d_max).detach().view(1, 3, 1, 1)
    xhat = (x - mean.view(1, 3, 1, 1)) / sigma.view(1, 3, 1, 1) * r + d
    y = module.weight.view(1, 3, 1, 1) * xhat + module.bias.view(1, 3, 1, 1)
    moved = (old + 0.01 * (new.detach() - old) for old, new in ((old_mean, mean), (old_sigma, sigma)))
    return y, *moved


@pytest.mark.parametrize(("step", "r_max", "d_max"), SCHEDULE[1:5])
def test_forward_backward_and_running_statistics(step: int, r_max: float, d_max: float) -> None:
    """float64; 1e-12 is some thousand roundings."""
    module = renorm(BatchRenorm(), step)
    x, upstream = sample().requires_grad_(), sample(1)
    expected, mean, sigma = algorithm(x, module, r_max, d_max)
    wanted = (x, module.weight, module.bias)
    gradients = torch.autograd.grad(expected, wanted, upstream)
    y = module(x)
    assert torch.allclose(y, expected, rtol=0, atol=1e-12)
    for got, exact in zip(torch.autograd.grad(y, wanted, upstream), gradients, strict=True):
        assert torch.allclose(got, exact, rtol=0, atol=1e-11)
    assert torch.allclose(module.running_mean, mean, rtol=0, atol=1e-14)
    assert torch.allclose(module.running_scale, sigma, rtol=0, atol=1e-14)


def test_without_correction_it_is_batch_norm() -> None:
    """r = 1 and d = 0 during the first steps."""
    module = renorm(BatchRenorm(), 100)
    x = sample()
    expected = nn.functional.batch_norm(x, None, None, module.weight, module.bias, training=True, eps=1e-3)
    assert torch.allclose(module(x), expected, rtol=0, atol=1e-12)


def test_unlimited_it_trains_on_what_inference_computes() -> None:
    """(x - mean_B) / sigma_B * r + d = (x - mean) / sigma while neither limit is reached."""
    module = renorm(BatchRenorm(r_max=1e6, d_max=1e6), 40_000)
    x = sample()
    expected = module.eval()(x)
    assert torch.allclose(module.train()(x), expected, rtol=0, atol=1e-12)


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="before the steps at which they are reached"):
        BatchRenorm(free_steps=30_000)
    with pytest.raises(InputError, match="r_max >= 1"):
        BatchRenorm(r_max=0.5)
