"""Layers that quantise, and the conversion of a float model."""

from qbench.nn.convert import Converted, convert
from qbench.nn.manifest import ManifestEntry

__all__ = ["Converted", "ManifestEntry", "convert"]
