"""Layers that quantise, the conversion of a float model, and checkpoints for inference."""

from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct
from qbench.nn.capture import CapturedStep
from qbench.nn.checkpoint import load_checkpoint, save_checkpoint
from qbench.nn.convert import Converted, convert
from qbench.nn.manifest import ManifestEntry

__all__ = [
    "Branch",
    "CapturedStep",
    "ConvNormAct",
    "Converted",
    "LinearNormAct",
    "ManifestEntry",
    "convert",
    "load_checkpoint",
    "save_checkpoint",
]
