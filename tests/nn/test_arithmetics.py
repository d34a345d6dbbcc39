"""Integer and simulated arithmetic of one method and seed: the same integers, the same weights, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from option_draws import drawn_options
from torch import Tensor

from qbench.catalog import find_method, methods
from qbench.errors import InputError
from qbench.models import model_names
from qbench.nn.site import Site
from qbench.quant.qtensor import QTensor
from qbench.train.build import build_cell
from qbench.train.contract import BATCH, Probe
from qbench.train.step import TrainStep

STEPS = 50
DRAWN_STEPS = 3

CONFIGURATIONS = [
    ("banner8", {}),
    ("banner8", {"preset": "paper"}),
    ("banner8", {"preset": "code"}),
    ("banner8", {"bits": 4, "wgrad_error": "error"}),
    ("wageubn", {}),
    ("wageubn", {"preset": "e2_16", "first_last": "quantized"}),
    ("graham", {}),
    ("graham", {"bits": 2, "saturate": True}),
    ("binaryconnect", {}),
    ("binaryconnect", {"rounding": "stochastic"}),
    ("sr", {}),
    ("sr", {"grid": "binary"}),
    ("sr", {"batches": 3}),
    ("r", {}),
    ("wage", {}),
    ("wage", {"preset": "code"}),
    ("wage", {"preset": "imagenet"}),
    ("wage", {"norm": "batch"}),
    ("fixed_point", {}),
    ("fixed_point", {"rounding": "nearest", "norm": "renorm"}),
    ("fixed_point", {"norm": "none"}),
]
"""Methods with the options whose data paths differ. A new method enters here."""


class Recorder:
    """Digests of all codes that sites produce."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.digests: list[tuple[str, str]] = []
        original = Site.observe

        def observe(site: Site, q: QTensor, exact: Callable[[], Tensor]) -> QTensor:
            self.digests.append((site.name, digest(q.codes)))
            return original(site, q, exact)

        monkeypatch.setattr(Site, "observe", observe)

    def take(self) -> list[tuple[str, str]]:
        """The digests since the last call."""
        taken, self.digests = self.digests, []
        return taken


def digest(x: Tensor) -> str:
    ordered = x.permute(0, 2, 3, 1) if x.dim() == 4 else x
    flat = ordered.reshape(-1).contiguous()
    return hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=12).hexdigest()


def steps(
    method: str, options: dict[str, object], arithmetic: str, recorder: Recorder, count: int = STEPS, **changes: object
) -> Iterator[list[object]]:
    """After each training step: digests of all codes of the step, of all weights and buffers, and the loss; at the end
    those of an evaluation and its outputs.

    changes: of the cell.
    """
    cell = Probe(find_method(method), method).cell(options)
    built = build_cell(cell.model_copy(update={"arithmetic": arithmetic, **changes}))
    step = TrainStep(built)
    built.model.train()
    for number in range(count):
        start = number * BATCH % (len(built.dataset.train) - BATCH)
        indices = torch.arange(start, start + BATCH).numpy()
        images, labels = built.to_device(*built.dataset.train.batch(indices, None))
        loss = step.forward(number, images, labels)
        step.update(loss)
        state = [digest(t.detach().contiguous()) for t in built.state() if t.dim() > 0]
        yield [recorder.take(), state, repr(loss.item())]
    built.model.eval()
    with torch.no_grad():
        outputs = digest(built.converted.predict(images))
    yield [recorder.take(), [outputs], ""]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), CONFIGURATIONS, ids=str)
def test_the_two_arithmetics_agree_bit_for_bit(
    method: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)
    both = (list(steps(method, options, arithmetic, recorder)) for arithmetic in ("simulated", "integer"))
    simulated, integer = both
    for number, (a, b) in enumerate(zip(simulated, integer, strict=True)):
        assert a == b, f"step {number}"
    assert any(codes for codes, _, _ in integer)


@pytest.mark.slow
@pytest.mark.parametrize("model", model_names())
def test_the_two_arithmetics_agree_on_every_model(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large models shrink these small images to one pixel, where loops over rows, columns and images meet."""
    recorder = Recorder(monkeypatch)
    simulated, integer = (
        list(steps("banner8", {}, arithmetic, recorder, 2, model=model, model_options={}))
        for arithmetic in ("simulated", "integer")
    )
    assert simulated == integer


MODELS: list[dict[str, Any]] = [
    {"model": "resnet8", "model_options": {"width": 8}},
    {"model": "mlp", "model_options": {}},
    {"model": "resnet18", "model_options": {}},  # shrinks the images to one pixel
]
OPTIMIZERS: list[dict[str, Any]] = [{}, {"momentum": 0.9}, {"name": "adam", "lr": 0.01}]


@pytest.mark.slow
@pytest.mark.parametrize("method", methods().names())
def test_the_two_arithmetics_agree_whatever_the_options(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, models and optimisers that hypothesis chooses, the same ones every time."""
    recorder = Recorder(monkeypatch)

    @settings(max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn_options(find_method(method)), st.sampled_from(MODELS), st.sampled_from(OPTIMIZERS))
    def agree(options: dict[str, object], model: dict[str, Any], optimizer: dict[str, Any]) -> None:
        train = Probe(find_method(method), method).cell({}).train
        changes = {
            **model,
            "train": train.model_copy(update={"optimizer": train.optimizer.model_copy(update=optimizer)}),
        }
        both = []
        for arithmetic in ("simulated", "integer"):
            try:
                both.append(list(steps(method, options, arithmetic, recorder, DRAWN_STEPS, **changes)))
            except InputError:
                assume(False)  # options that do not go together
        assert both[0] == both[1]

    agree()
