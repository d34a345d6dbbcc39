"""Experiments whose answer is known: each compares what the quantisers and update rules do with what theory says.

An experiment is one file in :mod:`qbench.theory.experiments`: a function of typed options that returns
:class:`~qbench.theory.findings.Findings`. A suite of ``kind: theory`` names experiments and their options.
Listing them imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qbench.data import resolve_dataset_options
from qbench.errors import InputError
from qbench.factory import Factory, registry_of
from qbench.models import resolve_model_options

if TYPE_CHECKING:
    from qbench.theory.findings import Findings as Findings

_CHECKS = {"model": resolve_model_options, "dataset": resolve_dataset_options}
"""Options that are names, and what refuses those of nothing."""


@dataclass(frozen=True)
class Experiment(Factory["Findings"]):
    """Its function takes ``seed`` and ``progress``, which the runner gives, and options: lists of what is gone through,
    and a ``model`` and a ``dataset`` by name where something is trained."""

    def resolve(self, options: Mapping[str, object]) -> dict[str, object]:
        """All options after checking, defaults filled in. Raises :class:`InputError`, also for an empty list and for a
        model or a data set that does not exist."""
        resolved = super().resolve(options)
        for name, value in resolved.items():
            if value == ():
                raise InputError(f"{self.kind} '{self.name}', option '{name}': an empty list leaves nothing to try")
            if name in _CHECKS:
                _CHECKS[name](str(value), {})
        return resolved


def _experiment(name: str, description: str) -> Experiment:
    return Experiment("experiment", name, description, f"qbench.theory.experiments.{name}:{name}")


registry = registry_of(
    "experiment",
    [
        _experiment("stochastic_floor", "loss at which SR, R and SGD stop on least squares"),
        _experiment("quadratic_chain", "SR on one quadratic against its stationary law"),
        _experiment("binaryconnect_convex", "where BinaryConnect's two copies of the weights go on convex problems"),
        _experiment("toy_landscape", "stationary laws of SR and BinaryConnect on three valleys, by step size"),
        _experiment("annealing", "SR and BinaryConnect on three valleys while the step size falls"),
        _experiment("gaussian_direction", "cosine between a Gaussian vector and its quantised copy, by bits"),
        _experiment("layer_direction", "the same for weights, activations and errors of a trained network"),
        _experiment("accuracy_by_bits", "accuracy of 8-bit training when all its widths shrink"),
        _experiment("range_constant", "range batch norm's scale over the standard deviation, by number of values"),
        _experiment("range_training", "range batch norm against batch norm in training, by constant and chunks"),
        _experiment("pure_noise", "binary weights changed by SR when the gradient is noise alone"),
        _experiment("weight_change", "binary weights changed in training under BinaryConnect, SR and R"),
    ],
)


def find_experiment(name: str) -> Experiment:
    """The experiment called ``name``. Raises UnknownNameError."""
    return registry.get(name)
