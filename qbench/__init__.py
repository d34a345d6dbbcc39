"""qbench: benchmark and compare methods for training neural networks in low precision.

The public names are listed here and loaded when first used, so ``import qbench`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from qbench.catalog import find_method as find_method
    from qbench.errors import InputError as InputError
    from qbench.errors import QbenchError as QbenchError
    from qbench.options import Bits as Bits
    from qbench.options import Fraction as Fraction
    from qbench.options import PositiveInt as PositiveInt
    from qbench.plugin import Method as Method
    from qbench.plugin import method as method
    from qbench.quant.formats import Affine as Affine
    from qbench.quant.formats import Binary as Binary
    from qbench.quant.formats import Constant as Constant
    from qbench.quant.formats import Direct as Direct
    from qbench.quant.formats import FixedPoint as FixedPoint
    from qbench.quant.formats import Flag as Flag
    from qbench.quant.formats import Float as Float
    from qbench.quant.formats import Levels as Levels
    from qbench.quant.formats import Quantizer as Quantizer
    from qbench.quant.formats import Shift as Shift
    from qbench.quant.formats import Symmetric as Symmetric
    from qbench.recipe import BatchNorm as BatchNorm
    from qbench.recipe import BatchRenorm as BatchRenorm
    from qbench.recipe import ClippedMaster as ClippedMaster
    from qbench.recipe import DirectNorm as DirectNorm
    from qbench.recipe import LayerScale as LayerScale
    from qbench.recipe import LevelNorm as LevelNorm
    from qbench.recipe import Norm as Norm
    from qbench.recipe import OnGrid as OnGrid
    from qbench.recipe import QuantizedMomentum as QuantizedMomentum
    from qbench.recipe import RangeNorm as RangeNorm
    from qbench.recipe import Recipe as Recipe
    from qbench.recipe import ShiftStep as ShiftStep
    from qbench.recipe import Update as Update

_HOME = {
    "qbench.catalog": ("find_method",),
    "qbench.errors": ("InputError", "QbenchError"),
    "qbench.plugin": ("Method", "method"),
    "qbench.options": ("Bits", "Fraction", "PositiveInt"),
    "qbench.quant.formats": (
        "Affine", "Binary", "Constant", "Direct", "FixedPoint", "Flag", "Float", "Levels", "Quantizer", "Shift",
        "Symmetric",
    ),
    "qbench.recipe": (
        "BatchNorm", "BatchRenorm", "ClippedMaster", "DirectNorm", "LayerScale", "LevelNorm", "Norm", "OnGrid",
        "QuantizedMomentum", "RangeNorm", "Recipe", "ShiftStep", "Update",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'qbench' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
