"""suite.json: which suite a results directory belongs to, and which of its records the last plan is about."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from qbench.cell import Cell, Plain
from qbench.store.keys import digest, method_source
from qbench.suite.model import Suite

SHOWN = {"cpu": dict, "memory_bytes": int, "gpus": list, "libraries": dict, "qbench": dict}
"""The parts of an environment that ``qbench show`` reads, and their types."""

_NUM_PARTS = 7  # of a slot, without the seed


class RunManifest(Plain):
    """The content of suite.json.

    resolved: the suite after profile and command line. conditions: digest of what all methods share; results under
    other conditions stay on disk, but are not shown. cells, measures: key of each record that belongs to the plan,
    and its slot (what it is a result of). methods: the slot of each row of the table, without a seed, and the digest of
    what its results share (:func:`method_digest`). skipped: label and reason of methods that cannot be run here.
    """

    format: Literal[1] = 1
    suite: str
    run: str
    resolved: dict[str, Any]
    conditions: str
    cells: dict[str, str]
    measures: dict[str, str]
    methods: dict[str, str] = Field(default_factory=dict)
    skipped: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, Any]

    @field_validator("environment")
    @classmethod
    def _can_be_shown(cls, environment: dict[str, Any]) -> dict[str, Any]:
        for name, kind in SHOWN.items():
            if not isinstance(environment.get(name, kind()), kind):
                raise ValueError(f"{name} is no {kind.__name__}")
        if not all(isinstance(gpu, dict) for gpu in environment.get("gpus", [])):
            raise ValueError("gpus are no list of dict")
        return environment

    @model_validator(mode="after")
    def _slots_can_be_read(self) -> Self:
        if self.resolved.get("kind") != "theory":  # whose cells are names
            for name in (*self.cells.values(), *self.measures.values(), *self.methods):
                parts = json.loads(name)
                if not isinstance(parts, list) or len(parts) < _NUM_PARTS:
                    raise ValueError(f"'{name}' is no slot")
        return self

    def after(self, earlier: RunManifest | None) -> RunManifest:
        """This plan with what an earlier one under the same conditions has beside it.

        So a run of one more method (``-m``) joins the results that are there, and a run with other settings
        replaces them in tables. Of two results of one thing the later plan's counts; where it gives a label to another
        method, or to other options, all of the label's earlier results go.
        """
        if earlier is None or earlier.conditions != self.conditions:
            return self
        replaced = {row for row, method in self.methods.items() if earlier.methods.get(row, method) != method}
        return self.model_copy(
            update={
                "cells": _joined(earlier.cells, self.cells, replaced),
                "measures": _joined(earlier.measures, self.measures, replaced),
                "methods": {**earlier.methods, **self.methods},
                "skipped": {**earlier.skipped, **self.skipped},
            }
        )


def new_run_id() -> str:
    """An identifier for a run: the time in UTC, and what tells apart runs that begin in one second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def conditions(suite: Suite) -> str:
    """Digest of what every method of a suite shares, which makes results comparable: models, data, training."""
    return digest(
        {
            "models": [choice.model_dump(mode="json") for choice in suite.models],
            "datasets": [choice.model_dump(mode="json", exclude={"root"}) for choice in suite.datasets],
            "train": suite.train.model_dump(mode="json", exclude={"timeout_s"}),
            "protocol": suite.protocol,
        }
    )


def method_digest(cell: Cell) -> str:
    """Digest of what the results in one row of a table share, whatever their seeds: the method's source, options and
    training."""
    train = cell.train.model_dump(mode="json", exclude={"timeout_s"})
    return digest({"source": method_source(cell.method), "options": cell.options, "train": train})


def slot(cell: Cell, *, seeded: bool = True) -> str:
    """What a record is a result of, whatever the sources, settings and machine that made it."""
    parts = [
        cell.label,
        cell.model,
        cell.model_options,
        cell.dataset,
        cell.dataset_options,
        cell.arithmetic,
        cell.device,
    ]
    return json.dumps([*parts, cell.seed] if seeded else parts, sort_keys=True)


def place(slot: str) -> str:
    """A slot in words: ``fp32 on resnet8, digits, seed 0``."""
    label, model, _, dataset, _, _, _, *seed = json.loads(slot)
    return f"{label} on {model}, {dataset}" + "".join(f", seed {number}" for number in seed)


def _joined(earlier: dict[str, str], later: dict[str, str], replaced: set[str]) -> dict[str, str]:
    taken = set(later.values())
    kept = {
        key: name for key, name in earlier.items() if name not in taken and not (replaced and _row(name) in replaced)
    }
    return {**kept, **later}


def _row(slot: str) -> str:
    """``slot`` without its seed, if it has one."""
    return json.dumps(json.loads(slot)[:_NUM_PARTS], sort_keys=True)
