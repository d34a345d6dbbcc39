"""Small cells on the digits."""

from __future__ import annotations

from collections.abc import Mapping

from qbench.catalog import find_method
from qbench.cell import Cell
from qbench.train.settings import TrainSettings


def digits_cell(method: str, options: Mapping[str, object], **settings: object) -> Cell:
    """A cell of a narrow ResNet-8; ``settings`` are the cell's, or where it has none of the name, its training's."""
    train = {name: settings.pop(name) for name in list(settings) if name in TrainSettings.model_fields}
    found = find_method(method)
    base = {
        "suite": "test", "method": method, "label": found.label(options), "options": found.resolve(options),
        "model": "resnet8", "model_options": {"width": 8}, "dataset": "digits", "seed": 3, "device": "cpu",
        "train": TrainSettings.model_validate(train),
    }  # fmt: skip
    return Cell.model_validate(base | settings)
