"""A suite: which methods are trained on which models and data sets, with which seeds and settings."""

from __future__ import annotations

import itertools

from pydantic import Field

from qbench.catalog import find_method
from qbench.cell import Cell, Plain, ProbeChoice
from qbench.recipe import Arithmetic
from qbench.suite.choices import Choice
from qbench.suite.entries import Entry
from qbench.suite.schema import Protocol
from qbench.train.settings import MeasureSettings, TrainSettings


class Suite(Plain):
    """A suite file after checking: profile and command line applied, lists expanded, every option filled in.

    notes: settings that have no effect, one sentence each. source: the file, as shown in messages.
    """

    name: str
    description: str = ""
    profile: str | None = None
    protocol: Protocol = "same"
    arithmetic: Arithmetic = "integer"
    seeds: tuple[int, ...]
    train: TrainSettings
    measure: MeasureSettings
    models: tuple[Choice, ...]
    datasets: tuple[Choice, ...]
    entries: tuple[Entry, ...]
    probes: tuple[ProbeChoice, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = Field(default="", exclude=True)

    def cells(self, device: str = "cpu") -> list[Cell]:
        """Every training run that can be made on ``device``, all methods of the first seed first."""
        runnable = [entry for entry in self.entries if self.reason_to_skip(entry, device) is None]
        return [
            self._cell(seed, model, dataset, entry, device)
            for seed, model, dataset, entry in itertools.product(self.seeds, self.models, self.datasets, runnable)
        ]

    def measured_cells(self, device: str = "cpu") -> list[Cell]:
        """What is measured for speed and memory: each method once per model and data set, with the first seed."""
        return [cell for cell in self.cells(device) if cell.seed == self.seeds[0]] if self.measure.enabled else []

    def reason_to_skip(self, entry: Entry, device: str) -> str | None:
        """Why ``entry`` cannot be run on ``device`` in the suite's arithmetic; None where it can."""
        recipe = entry.recipe()
        if self.arithmetic not in recipe.arithmetics:
            return f"offers {' and '.join(recipe.arithmetics)} arithmetic, not {self.arithmetic}"
        if recipe.autocast == "bfloat16" and device.startswith("cuda") and not _gpu_has_bfloat16():
            return f"'{device}' has no bfloat16 arithmetic"
        return None

    def _cell(self, seed: int, model: Choice, dataset: Choice, entry: Entry, device: str) -> Cell:
        return Cell(
            suite=self.name,
            method=entry.method,
            label=entry.label,
            changed=find_method(entry.method).changed(entry.options),
            options=entry.options,
            model=model.name,
            model_options=model.options,
            dataset=dataset.name,
            dataset_options=dataset.options,
            data_root=dataset.root,
            seed=seed,
            arithmetic=self.arithmetic,
            device=device,
            train=entry.train,
            measure=self.measure,
            because=entry.because,
            probes=self.probes,
        )


def _gpu_has_bfloat16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
