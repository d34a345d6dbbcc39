"""The ends of converted blocks: the same values and gradients as the modules, and what they keep and find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kept_tensors import noting_kept
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qbench.nn import convert
from qbench.nn.block_end import EndParts, ModulesEnd, RectifiedEnd
from qbench.nn.blocks import ConvNormAct
from qbench.nn.clock import Clock
from qbench.nn.site import GradientSite, Known, Site, ValueSite
from qbench.quant.formats import Affine, FixedPoint, Quantizer, Symmetric
from qbench.recipe import Recipe

SHAPES = ((3, 5), (2, 3, 5, 7), (0, 3, 2, 2))
GRID, STOCHASTIC = FixedPoint(3, 6), FixedPoint(3, 6, "stochastic")
COARSE = FixedPoint(3, 2, "stochastic")


def awkward(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    for place, value in enumerate((0.0, -0.0, torch.nan, torch.inf, -torch.inf, 1e-45)):
        x.view(-1)[place : place + 1] = value
    return x


def parts(
    norm_error: Quantizer | None = None, trunk: Quantizer | None = None, branch_error: Quantizer | None = None
) -> EndParts:
    clock = Clock(step=1)

    def of(kind: Callable[..., nn.Module], spec: Quantizer | None, name: str) -> nn.Module:
        return nn.Identity() if spec is None else kind(spec, name, clock)

    return EndParts(
        of(GradientSite, norm_error, "norm_error"), True, of(ValueSite, trunk, "trunk"),
        of(GradientSite, branch_error, "branch_error"),
    )  # fmt: skip


def outcome(end: Any, y: Tensor, trunk: Tensor | None) -> list[Tensor]:
    """Output and gradients."""
    y = y.clone().requires_grad_()
    trunk = None if trunk is None else trunk.clone().requires_grad_()
    value = end(y, trunk)
    value.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(9)))
    return [x for x in (value.detach(), y.grad, None if trunk is None else trunk.grad) if x is not None]


FORMATS: tuple[dict[str, Quantizer], ...] = (
    {}, {"norm_error": Symmetric(8)}, {"trunk": Symmetric(6)}, {"branch_error": Affine(8)},
    {"norm_error": STOCHASTIC, "branch_error": STOCHASTIC, "trunk": STOCHASTIC},
    {"norm_error": GRID, "branch_error": STOCHASTIC, "trunk": GRID}, {"norm_error": COARSE, "branch_error": STOCHASTIC},
)  # fmt: skip


@pytest.mark.parametrize("formats", FORMATS, ids=str)
@pytest.mark.parametrize("has_trunk", [False, True])
@pytest.mark.parametrize("is_channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_one_node_does_what_the_modules_do(
    shape: tuple[int, ...], is_channels_last: bool, has_trunk: bool, formats: dict[str, Quantizer]
) -> None:
    y, trunk = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    if not formats:
        y, trunk = awkward(shape), awkward(shape, 1).flip(0)
    if len(shape) == 4 and is_channels_last:
        y, trunk = (x.contiguous(memory_format=torch.channels_last) for x in (y, trunk))
    ends = RectifiedEnd(parts(**formats), GRID), ModulesEnd(parts(**formats), overwrites=False)
    found, expected = (outcome(end, y, trunk if has_trunk else None) for end in ends)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


class Called(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The kernels that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "qbench":
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def encoded(site: Site, x: Tensor) -> list[str]:
    """The kernels that ``site`` calls; its codes are those of the values."""
    with Called() as called:
        q = site(x)
    assert torch.equal(q.codes, site(x.detach().clone()).codes)
    return called.names


def test_the_next_format_need_not_measure() -> None:
    value = RectifiedEnd(parts(), Symmetric(8))(torch.randn(4, 3, 5, 5, requires_grad=True), None)
    site = Site(Symmetric(8), "next", Clock(step=1))
    assert encoded(site, value) == ["encode_scaled"]
    assert encoded(site, value.mul_(2)) == ["extremes", "encode_scaled"]


@pytest.mark.parametrize("reader", [GRID, STOCHASTIC], ids=str)
def test_what_lies_on_the_grid_has_its_codes(reader: Quantizer) -> None:
    end = RectifiedEnd(parts(trunk=STOCHASTIC), reader)
    value = end(torch.randn(4, 3, 5, 5, requires_grad=True), torch.randn(4, 3, 5, 5))
    site = Site(reader, "next", Clock(step=1))
    tap = GradientSite(COARSE, "tap", Clock(step=1))(value)
    assert encoded(site, value) == encoded(site, tap) == []
    assert encoded(Site(COARSE, "other", Clock(step=1)), value) == ["encode_scaled"]
    value.detach()[0, 0] = 0.3
    assert encoded(site, value) == ["encode_scaled"]
    assert Known.found(tap) is None  # what it shows has changed


def test_no_codes_are_held_for_another_format() -> None:
    value = RectifiedEnd(parts(trunk=GRID), Symmetric(8))(torch.randn(4, 3, 5, 5, requires_grad=True), None)
    known = Known.found(value)
    assert known is not None
    assert known.grid is None and known.extremes is None  # those of the values before they were rounded are not theirs


def test_what_is_rounded_is_not_rounded_again() -> None:
    y = torch.randn(4, 3, 5, 5, requires_grad=True)
    for before, expected in ((STOCHASTIC, ["encode_scaled", "join_gradients"]), (None, ["apply_mask", "round_scaled"])):
        value = RectifiedEnd(parts(norm_error=GRID, branch_error=before), GRID)(y, None)
        with Called() as called:
            value.sum().backward()
        assert called.names == expected


def test_nothing_is_known_of_what_has_no_graph() -> None:
    """It may be saved, and what is known would be saved with it."""
    value = RectifiedEnd(parts(trunk=GRID), GRID)(torch.randn(4, 3, 5, 5), None)
    assert not vars(value)


def test_evaluation_rounds_no_gradient() -> None:
    own = parts(STOCHASTIC, None, STOCHASTIC)
    for module in (own.norm_error, own.branch_error):
        module.eval()
    y = torch.randn(4, 3, 5, 5, requires_grad=True)
    g = torch.randn(4, 3, 5, 5)
    RectifiedEnd(own, GRID)(y, None).backward(g)
    assert y.grad is not None
    assert torch.equal(y.grad, torch.where(y > 0, g, 0.0))
    with torch.inference_mode():
        assert torch.equal(RectifiedEnd(own, GRID)(y, None), y.relu())


def kept_bytes(recipe: Recipe) -> int:
    """Of a block between two layers, without what it keeps of its own input."""
    torch.manual_seed(0)
    block = convert(torch.nn.Sequential(ConvNormAct(8, 8, 3), ConvNormAct(8, 8, 3)), recipe).model[1].train()  # type: ignore[index]
    x = torch.randn(4, 8, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    with noting_kept() as kept:
        block(x)
    sizes = {storage.data_ptr(): storage.nbytes() for storage in map(Tensor.untyped_storage, kept)}
    return sum(sizes.values()) - (0 if recipe.activation is not None else x.nbytes)


def test_what_a_block_keeps() -> None:
    """Behind a quantised layer: codes, the norm's input and bits, where the float block keeps two float tensors."""
    values = 4 * 8 * 6 * 6
    small = 2000  # weights and vectors
    assert kept_bytes(Recipe(activation=Symmetric(8))) <= values * (1 + 4) + values // 8 + 8 * 8 * 9 * 4 + small
    assert values * 8 <= kept_bytes(Recipe()) <= values * 8 + 8 * 8 * 9 * 4 + small
