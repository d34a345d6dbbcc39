"""What a method is: a documented function of options that returns a recipe.

A recipe says which number format sits on which data path (W weight, A activation, E error,
G weight gradient, U update, N normalisation), which normalisation is used and how weights are updated.
Nothing here imports torch: methods are listed, checked and planned without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from qbench.quant.formats import Constant, Direct, FixedPoint, Quantizer

if TYPE_CHECKING:
    from torch import nn

Arithmetic = Literal["simulated", "integer"]


# --- normalisations ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Norm:
    """Base of all normalisations that can replace a model's batch norm."""


@dataclass(frozen=True)
class BatchNorm(Norm):
    """The model's own float batch norm, untouched."""


@dataclass(frozen=True)
class RangeNorm(Norm):
    """Range batch norm (Banner et al. 2018, Eq. 2): the scale is C(n) * range instead of the standard deviation.

    constant: ``paper`` 1/sqrt(2 ln n); ``code`` 0.5402/sqrt(2 ln m), m values per chunk;
    ``exact`` 1/E[range of n normal values]. chunks: the range is the mean over this many chunks of each channel.
    tie: which of several equal extremes takes the gradient. momentum: weight of the *new* value in the
    running statistics. input, scale, affine: formats of what enters and of the vectors used inside (None: float).
    """

    constant: Literal["paper", "code", "exact"] = "code"
    chunks: int = 16
    tie: Literal["one", "split", "all"] = "one"
    momentum: float = 0.1
    eps: float = 1e-5
    input: Quantizer | None = None
    scale: Quantizer | None = None
    affine: Quantizer | None = None


@dataclass(frozen=True)
class DirectNorm(Norm):
    """WAGEUBN's batch norm: mean, deviation, normalised value, gamma and beta each on a direct grid (section 2.4)."""

    mean: Direct | None = Direct(16)
    deviation: Direct | None = Direct(16)
    normalised: Direct | None = Direct(8)
    affine: Direct | None = Direct(8)
    eps: float = 2.0**-15
    momentum: float = 0.003


@dataclass(frozen=True)
class LevelNorm(Norm):
    """Graham's batch norm: the normalised value is quantised before the per-channel affine.

    levels: the grid (None: not quantised). saturate: no gradient where the normalised value was clipped.
    energy_correction: divide the third backward term by E[q^2].
    """

    levels: Quantizer | None = None
    saturate: bool = False
    energy_correction: bool = False


# --- update rules --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """How weights change: by default the suite's own optimiser on float weights."""


@dataclass(frozen=True)
class ClippedMaster(Update):
    """BinaryConnect: a float master copy, clipped to +-limit after every step of the suite's optimiser.

    scale: ``unit`` keeps limit 1 and multiplies the learning rate by 1/c (Adam) or 1/c^2 (SGD), where
    c = sqrt(1.5 / (n_in + n_out)) is the layer's Glorot coefficient; ``glorot`` uses limit c and unscaled steps;
    ``none`` uses limit 1 and unscaled steps.
    """

    scale: Literal["unit", "glorot", "none"] = "unit"


@dataclass(frozen=True)
class OnGrid(Update):
    """Weights live on a grid and nowhere else: w <- Q(w - step), no float copy (Li et al. 2017, R and SR)."""

    grid: Quantizer = FixedPoint(2, 6, "stochastic")


@dataclass(frozen=True)
class QuantizedMomentum(Update):
    """WAGEUBN's Momentum: Acc <- mom * Q(Acc, 13) + G; W <- Q(W, 24) - Q(lr, 10) * Acc, exact on the 24-bit grid.

    base_lr: the rate before the suite's schedule, the rule's own because the gradient's magnitude is discarded
    (0.05 in the authors' code). levels: the (fraction of training, dr) steps of the constant quantiser.
    """

    base_lr: float = 0.05
    momentum: float = 0.25
    accumulator: Direct = Direct(13)
    weight: Direct = Direct(24, limit=1 - 2.0**-23)
    learning_rate: Direct = Direct(10)
    norm_gradient: Direct = Direct(15)
    gradient: Constant = Constant()
    levels: tuple[tuple[float, int], ...] = ((0.0, 128), (0.6, 32), (0.8, 8), (0.9, 2))


# --- recipe --------------------------------------------------------------------------------------------------------

LayerPolicy = Literal["quantized", "float"]


@dataclass(frozen=True)
class Recipe:
    """One low-precision training scheme. A slot that is None stays in the model's own float.

    weight (W), activation (A): operands of every convolution and linear layer.
    error (E2): gradient at the layer's output, as used for the input gradient.
    wgrad_error: the gradient operand of the weight gradient; ``"error"`` means the same tensor as ``error``,
        None the unquantised gradient (Banner's bifurcation).
    branch_error (E1): gradient with respect to what enters a layer, summed over its consumers.
    norm_error: gradient at the norm's output. gradient (G): the weight gradient. trunk: the residual stream.
    norm (N), update (U): see their classes.
    first_layer, last_layer: whether the first convolution and the classifier follow the recipe too.
    inference_weight: whether evaluation uses the weights as quantised (to nearest) or the float master copy.
    autocast: run the float model under torch autocast with this dtype.
    transform: a last step of the method's own on the converted model.
    arithmetics: which arithmetics the recipe can run in.
    """

    weight: Quantizer | None = None
    activation: Quantizer | None = None
    error: Quantizer | None = None
    wgrad_error: Quantizer | Literal["error"] | None = "error"
    branch_error: Quantizer | None = None
    norm_error: Quantizer | None = None
    gradient: Quantizer | None = None
    trunk: Quantizer | None = None
    norm: Norm = BatchNorm()
    update: Update = Update()
    first_layer: LayerPolicy = "quantized"
    last_layer: LayerPolicy = "quantized"
    inference_weight: Literal["quantized", "float"] = "quantized"
    autocast: Literal["bfloat16", "float16"] | None = None
    transform: Callable[[nn.Module], nn.Module] | None = None
    arithmetics: tuple[Arithmetic, ...] = ("simulated",)

    @property
    def converts(self) -> bool:
        """Whether any layer has to be replaced."""
        return replace(self, update=Update(), autocast=None, transform=None, **_FREE) != Recipe()

    def with_float_operands(self) -> Recipe:
        """The recipe of a layer that stays float: its norm follows the recipe, its operands do not."""
        none: dict[str, Any] = dict.fromkeys(
            ("weight", "activation", "error", "branch_error", "norm_error", "gradient")
        )
        return replace(self, wgrad_error="error", **none)

    def slots(self) -> dict[str, object]:
        """Field name to value, for listings."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_FREE: dict[str, Any] = {"first_layer": "quantized", "last_layer": "quantized", "arithmetics": ("simulated",)}
