"""Layers that quantise, and the conversion of a float model."""

from qbench.nn.convert import Converted, ManifestEntry, convert

__all__ = ["Converted", "ManifestEntry", "convert"]
