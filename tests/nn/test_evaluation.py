"""Evaluation: fused blocks against their modules, what watchers are shown, and that no NaN is hidden."""

from __future__ import annotations

import pytest
import torch
from evaluated_models import REMEMBERING, built, evaluated, images
from fused_models import unfuse
from torch import Tensor
from torch.nn import functional

from qbench.nn import Converted
from qbench.nn.deferred import Deferred, materialised
from qbench.nn.norms.base import rows_of
from qbench.nn.site import Site
from qbench.quant.qtensor import QTensor

WIDE = {"bits": 16, "normalised_bits": 16}
FUSED = ("graham", "wageubn")
"""Methods whose blocks evaluate as their modules do, bit for bit; banner8's round the norm once instead of thrice."""


def unfused(converted: Converted) -> Converted:
    unfuse(converted.model)
    return converted


@pytest.mark.parametrize(("method", "options"), [*((method, {}) for method in FUSED), ("wageubn", WIDE)], ids=str)
def test_fused_blocks_evaluate_as_their_modules(method: str, options: dict[str, object]) -> None:
    fused = built(method, options=options)
    with torch.no_grad():
        assert isinstance(fused.model.first(images()), Deferred)  # type: ignore[operator]
    assert torch.equal(evaluated(fused), evaluated(unfused(built(method, options=options))))


@pytest.mark.parametrize("method", FUSED)
def test_channels_that_never_varied_evaluate_as_in_the_modules(method: str) -> None:
    fused, modules = built(method), unfused(built(method))
    for converted in (fused, modules):
        for name, buffer in converted.model.named_buffers():
            if name.endswith("running_scale"):
                buffer.zero_()
    expected = evaluated(modules)
    assert expected.isfinite().all() and torch.equal(evaluated(fused), expected)


@pytest.mark.parametrize("method", FUSED)
def test_watchers_are_shown_the_floats(method: str) -> None:
    converted, seen = built(method), set[str]()

    def watch(site: Site, q: QTensor, exact: Tensor) -> None:
        assert q.codes.shape == exact.shape
        seen.add(site.name)

    expected = evaluated(converted)
    for site in converted.sites():
        site.watcher = watch
    assert torch.equal(evaluated(converted), expected)
    backward = ("error", "gradient")
    forward = {site.name for site in converted.sites() if not site.name.endswith(backward)}
    assert seen == forward and forward


@pytest.mark.parametrize("method", [*FUSED, "banner8"])
def test_watchers_of_a_training_step_are_shown_what_the_modules_compute(method: str) -> None:
    """All tensors but for a code here and there, because statistics are summed in another precision."""

    def shown(converted: Converted) -> dict[str, tuple[Tensor, ...]]:
        seen = dict[str, tuple[Tensor, ...]]()

        def watch(site: Site, q: QTensor, exact: Tensor) -> None:
            values = q.dequantize(), exact.detach()
            seen[site.name] = tuple((rows_of(x) if x.dim() > 1 else x).clone() for x in values)

        for site in converted.sites():
            site.watcher = watch
        functional.cross_entropy(converted.model.train()(images()), torch.arange(64) % 5).backward()
        return seen

    found, expected = shown(built(method)), shown(unfused(built(method)))
    unrounded = {f"{e.layer}/{e.path}" for e in built(method).manifest() if e.declared.startswith("line of")}
    assert found.keys() == expected.keys() - unrounded
    for name, tensors in found.items():
        for one, other in zip(tensors, expected[name], strict=True):
            assert (one - other).norm() <= 0.02 * other.norm() + 1e-6, name


@pytest.mark.parametrize("method", REMEMBERING)
def test_evaluation_with_gradients_differs_in_no_more_than_roundings(method: str) -> None:
    converted = built(method)
    found, expected = evaluated(converted), materialised(converted.model(images())).detach()
    # banner8 rounds its norm's line once in one of them, so a code may lie one step of 1/255 of its range apart.
    assert (found - expected).norm() <= (0.02 if method == "banner8" else 1e-6) * expected.norm()


@pytest.mark.parametrize("method", REMEMBERING)
def test_nan_is_not_hidden(method: str) -> None:
    converted, x = built(method), images()
    x[3, 1, 2, 2] = torch.nan
    assert evaluated(converted, x)[3].isnan().all()
    assert evaluated(converted).isfinite().all()


@pytest.mark.parametrize("layer", ["first.conv", "inner.conv", "outer.conv", "hidden.linear", "last"])
def test_nan_in_a_weight_is_not_hidden(layer: str) -> None:
    converted = built("banner8")
    assert evaluated(converted).isfinite().all()
    with torch.no_grad():
        converted.model.get_submodule(layer).weight[1, 1] = torch.nan  # type: ignore[union-attr,operator]
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("norm", ["first.norm", "inner.norm", "outer.norm", "hidden.norm"])
def test_nan_in_a_norm_is_not_hidden(norm: str, parameter: str) -> None:
    converted = built("banner8")
    with torch.no_grad():
        getattr(converted.model.get_submodule(norm), parameter)[3] = torch.nan
    assert evaluated(converted).isnan().any(1).all()


@pytest.mark.parametrize("statistic", ["running_mean", "running_scale"])
@pytest.mark.parametrize("norm", ["first.norm", "inner.norm", "outer.norm", "hidden.norm"])
@pytest.mark.parametrize("method", [*FUSED, "banner8"])
def test_nan_in_running_statistics_is_not_hidden(method: str, norm: str, statistic: str) -> None:
    """As a step leaves it there that met an infinity."""
    converted = built(method)
    getattr(converted.model.get_submodule(norm), statistic)[3] = torch.nan
    assert evaluated(converted).isnan().any(1).all()
