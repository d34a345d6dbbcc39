"""Training steps as digests of every integer that they make, to be compared for equality."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from qbench.catalog import find_method
from qbench.nn.site import Site
from qbench.quant.qtensor import QTensor
from qbench.train.build import build_cell
from qbench.train.contract import BATCH, Probe
from qbench.train.step import TrainStep

CONFIGURATIONS = [
    ("banner8", {}),
    ("banner8", {"preset": "paper"}),
    ("banner8", {"preset": "code"}),
    ("banner8", {"bits": 4, "wgrad_error": "error"}),
    ("banner8", {"wgrad_error": "int16"}),
    ("wageubn", {}),
    ("wageubn", {"preset": "e2_16", "first_last": "quantized"}),
    ("graham", {}),
    ("graham", {"bits": 2, "saturate": True, "energy_correction": True}),
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
    method: str, options: dict[str, object], arithmetic: str, recorder: Recorder, count: int, **changes: object
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


def recorded(method: str, options: dict[str, object], count: int = 2) -> list[list[object]]:
    """A few steps in integer arithmetic."""
    with pytest.MonkeyPatch.context() as patch:
        return list(steps(method, options, "integer", Recorder(patch), count))
