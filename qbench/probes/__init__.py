"""Probes: observers of training that measure one thing each, per layer and epoch, and change nothing.

A probe is one file: a function of typed options that returns a :class:`~qbench.probes.base.Probe`. A suite asks for
probes by name (``probes: [cosine, {weight_change: {k: 5}}]``). Once per epoch an observed step is made
(:mod:`qbench.train.observe`): a training step on the first training batch, without augmentation, at the clock of the
epoch's last step, after which the weights and everything else are put back bit for bit.

Listing probes imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.factory import Factory, registry_of
from qbench.probes.base import Probe, Quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qbench.cell import ProbeChoice

__all__ = ["ProbeFactory", "build_probes", "find_quantity", "probe_names", "registry"]

ProbeFactory = Factory[Probe]


def _probe(name: str, description: str) -> ProbeFactory:
    return ProbeFactory("probe", name, description, f"qbench.probes.{name}:{name}")


registry = registry_of(
    "probe",
    [
        _probe("cosine", "cosine and angle between what is used and what is exact, per data path"),
        _probe("sqnr", "signal-to-quantisation-noise ratio, and codes that are not the nearest ones"),
        _probe("clipping", "share of values that are clipped, are zero, or became zero"),
        _probe("weight_change", "share of weights whose code or sign has changed, since the start and since k epochs"),
        _probe("updates", "share of weights that the update wants to change, and of those the ones that do change"),
        _probe("drift", "norm of the weight gradient against the exact one, and how quantisers' scales move"),
    ],
)


def probe_names() -> list[str]:
    """All probe names, sorted."""
    return registry.names()


def build_probes(choices: Iterable[ProbeChoice]) -> dict[str, Probe]:
    """The chosen probes by name, each with no memory of any training yet."""
    return {choice.name: registry.get(choice.name).build(choice.options) for choice in choices}


def find_quantity(probe: str, name: str, options: Mapping[str, object] | None = None) -> Quantity:
    """What a series holds that was recorded with ``options``; a record of another version may name a quantity that is
    not known here."""
    known = registry.get(probe).build(options or {}).quantities if probe in registry else ()
    return next((quantity for quantity in known if quantity.name == name), Quantity(name, f"{probe}: {name}"))
