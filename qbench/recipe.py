"""What a method is: a documented function of options that returns a recipe.

A recipe says which number format sits on which data path (W weight, A activation, E error,
G weight gradient, U update, N normalisation), which normalisation is used and how weights are updated.
Nothing here imports torch: methods are listed, checked and planned without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from qbench.errors import InputError
from qbench.quant.formats import Binary, Constant, Direct, FixedPoint, Quantizer, require_choice, require_choices

if TYPE_CHECKING:
    from torch import nn

Arithmetic = Literal["simulated", "integer"]


# --- normalisations ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Norm:
    """Base of all normalisations that can replace a model's batch norm."""

    def __post_init__(self) -> None:
        require_choices(self)

    @property
    def replaces(self) -> bool:
        """Whether the model's own gives way to it."""
        return True


@dataclass(frozen=True)
class BatchNorm(Norm):
    """The model's own float batch norm, untouched."""

    @property
    def replaces(self) -> bool:
        return False


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunks < 1:
            raise InputError(f"range batch norm takes its range over at least one chunk, not {self.chunks}")


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
    energy_correction: divide the third backward term by the batch's mean of q^2, per channel.
    """

    levels: Quantizer | None = None
    saturate: bool = False
    energy_correction: bool = False

    @property
    def replaces(self) -> bool:
        return self.levels is not None


@dataclass(frozen=True)
class BatchRenorm(Norm):
    """Batch renormalisation (Ioffe 2017): xhat = (x - mean) / sigma * r + d, which pulls the batch's own statistics
    towards the running ones: r = clip(sigma / running sigma, 1 / r_max, r_max) and d = clip((mean - running mean) /
    running sigma, -d_max, d_max), both without gradient.

    free_steps: optimiser steps with r = 1 and d = 0; from there the limits grow linearly to r_max at step r_steps and
    to d_max at step d_steps (defaults: the paper's). momentum: weight of the *new* value in the running statistics.
    eps: added to the variance.
    """

    r_max: float = 3.0
    d_max: float = 5.0
    free_steps: int = 5_000
    r_steps: int = 40_000
    d_steps: int = 25_000
    momentum: float = 0.01
    eps: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.free_steps < min(self.r_steps, self.d_steps):
            raise InputError(
                f"batch renormalisation's limits start to grow at step {self.free_steps}, which has to lie before the "
                f"steps at which they are reached, {self.r_steps} and {self.d_steps}"
            )
        if self.r_max < 1 or self.d_max < 0:
            raise InputError(f"batch renormalisation needs r_max >= 1 and d_max >= 0, not {self.r_max}, {self.d_max}")


@dataclass(frozen=True)
class LayerScale(Norm):
    """WAGE's stand-in for batch norm (Wu et al. 2018, Eq. 7): y = x / alpha with a power of two alpha =
    max(Shift(smallest / limit), 1), limit = sqrt(numerator / fan-in), Shift(x) = 2^round(log2 x).

    A constant of each layer: nothing is learnt or tracked. Layers without a norm, such as the classifier, are scaled
    too. numerator: 6 in the paper, 3 in the authors' code. smallest: beta * 2^(1 - weight bits), beta = 1.5.
    """

    numerator: float = 6.0
    smallest: float = 0.75


# --- update rules --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """How weights change: by default the suite's own optimiser on float weights."""

    def __post_init__(self) -> None:
        require_choices(self)


@dataclass(frozen=True)
class ClippedMaster(Update):
    """BinaryConnect: a float master copy, clipped to +-limit after every step of the suite's optimiser.

    scale: ``unit`` keeps limit 1 and multiplies the learning rate by 1/c (Adam) or 1/c^2 (SGD), where
    c = sqrt(1.5 / (n_in + n_out)) is the layer's Glorot coefficient; ``glorot`` uses limit c and unscaled steps;
    ``none`` uses limit 1 and unscaled steps.
    """

    scale: Literal["unit", "glorot", "none"] = "unit"


GRID_CODES = ("int8", "int16")
"""What the codes of weights that live on a grid are stored in."""


@dataclass(frozen=True)
class OnGrid(Update):
    """Weights live on a grid and nowhere else: w <- Q(w - step), no float copy (Li et al. 2017, R and SR).

    grid: one that does not depend on the weights, with codes of at most 16 bits. Raises InputError for any other.
    batches: one update per so many batches, with their mean gradient (big-batch SR). others: a grid that biases and
    the norms' parameters are rounded to after each of their steps.
    """

    grid: Quantizer = FixedPoint(2, 6, "stochastic")
    batches: int = 1
    others: Quantizer | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batches < 1:
            raise InputError(f"an update takes the gradients of at least one batch, not {self.batches}")
        if not isinstance(self.grid, Binary | FixedPoint | Direct):
            raise InputError(f"weights live on a fixed grid (Binary, FixedPoint or Direct), not on {self.grid}")
        if self.grid.code_dtype not in GRID_CODES:
            raise InputError(f"weights that live on a grid have codes of at most 16 bits; {self.grid} needs more")


@dataclass(frozen=True)
class QuantizedMomentum(Update):
    """WAGEUBN's Momentum: Acc <- mom * Q(Acc, 13) + G; W <- Q(W, 24) - Q(lr, 10) * Acc, exact on the 24-bit grid.

    base_lr: the rate before the suite's schedule, the rule's own because the gradient's magnitude is discarded
    (0.05 in the authors' code). rates: its own schedule in place of the suite's, (fraction of training, factor) steps.
    levels: the (fraction of training, dr) steps of the constant quantiser.
    """

    base_lr: float = 0.05
    momentum: float = 0.25
    accumulator: Direct = Direct(13)
    weight: Direct = Direct(24, limit=1 - 2.0**-23)
    learning_rate: Direct = Direct(10)
    norm_gradient: Direct = Direct(15)
    gradient: Constant = Constant()
    levels: tuple[tuple[float, int], ...] = ((0.0, 128), (0.6, 32), (0.8, 8), (0.9, 2))
    rates: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class ShiftStep(Update):
    """WAGE's update (Wu et al. 2018, Eq. 10-12): W <- clip(W - step * SR(eta * G / Shift(max|G|))) on the grid of
    ``master``, without momentum or weight decay; Shift(x) = 2^round(log2 x).

    rate: eta before the suite's schedule, the rule's own because the gradient's magnitude is discarded; the product
    with the schedule's factor is rounded to a power of two. master: grid and limit of the stored weights; None keeps
    them float32 and leaves the step to the suite's optimiser. start: the grid that initial weights are rounded to
    (None: the master's). numerator, smallest: initial weights are uniform in +-max(sqrt(numerator / fan-in), smallest).
    """

    rate: float = 8.0
    master: Direct | None = Direct(8, 1 - 2.0**-7)
    start: Direct | None = None
    numerator: float = 6.0
    smallest: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.master is not None and self.master.code_dtype not in GRID_CODES:
            raise InputError(f"weights that live on a grid have codes of at most 16 bits; {self.master} needs more")


# --- recipe --------------------------------------------------------------------------------------------------------

LayerPolicy = Literal["quantized", "float"]


@dataclass(frozen=True)
class Recipe:
    """One low-precision training scheme. A slot that is None stays in the model's own float.

    weight (W), activation (A): operands of every convolution and linear layer. input: the network's input, where its
        format differs from that of the activations. bias: of those layers that have one.
    output: what a layer computes, rounded once behind the sum of products and the bias.
    error (E2): gradient at the layer's output, as used for the input gradient.
    wgrad_error: the gradient operand of the weight gradient; ``"error"`` means the same tensor as ``error``,
        None the unquantised gradient (Banner's bifurcation).
    wgrad_line: whether a layer in front of a RangeNorm on affine codes forms its weight gradient with the line of
        ``norm_error``'s codes that the error is there: the unquantised gradient, multiplied as 8-bit codes.
        ``wgrad_error`` is then that of the other layers.
    branch_error (E1): gradient with respect to what enters a layer, summed over its consumers.
    error_at: where a block's error is taken: at the ``product``'s output, behind the gradients of ReLU and norm, or at
        the ``activation``, in front of the ReLU's mask (WAGE), where no error passes an activation that was clipped;
        a block's output is then an activation on its Direct grid, and the norm must be a LayerScale.
    norm_error: gradient at the norm's output. gradient (G): the weight gradient. trunk: the residual stream.
    norm (N), update (U): see their classes.
    first_layer, last_layer: whether the first convolution and the classifier follow the recipe too.
    inference_weight: whether evaluation uses the weights as quantised (to nearest), the float master copy, or an
        ``ensemble``: the outputs of ``draws`` networks, each with weights rounded at random, are averaged.
    autocast: run the float model under torch autocast with this dtype.
    transform: a last step of the method's own on the converted model.
    arithmetics: which arithmetics the recipe can run in.
    """

    weight: Quantizer | None = None
    activation: Quantizer | None = None
    input: Quantizer | None = None
    bias: Quantizer | None = None
    output: Quantizer | None = None
    error: Quantizer | None = None
    error_at: Literal["product", "activation"] = "product"
    wgrad_error: Quantizer | Literal["error"] | None = "error"
    wgrad_line: bool = False
    branch_error: Quantizer | None = None
    norm_error: Quantizer | None = None
    gradient: Quantizer | None = None
    trunk: Quantizer | None = None
    norm: Norm = BatchNorm()
    update: Update = Update()
    first_layer: LayerPolicy = "quantized"
    last_layer: LayerPolicy = "quantized"
    inference_weight: Literal["quantized", "float", "ensemble"] = "quantized"
    draws: int = 1
    autocast: Literal["bfloat16", "float16"] | None = None
    transform: Callable[[nn.Module], nn.Module] | None = None
    arithmetics: tuple[Arithmetic, ...] = ("integer", "simulated")

    def __post_init__(self) -> None:
        self._check_slots()
        if self.error_at == "activation":
            self._check_block()
        if self.inference_weight == "ensemble":
            if self.draws < 1:
                raise InputError(f"an ensemble averages at least one draw, not {self.draws}")
            if self.weight is not None and not hasattr(self.weight, "rounding"):
                raise InputError(f"an ensemble draws its weights by stochastic rounding, which {self.weight} has not")

    def _check_slots(self) -> None:
        for name in _FORMATS:
            value = getattr(self, name)
            if not (value is None or isinstance(value, Quantizer) or (name == "wgrad_error" and value == "error")):
                raise InputError(f"the recipe's slot {name} takes a number format or None, not {value!r}")
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"the recipe's {name} is a qbench.{kind.__name__}, not {getattr(self, name)!r}")
        for name, choices in _CHOICES.items():
            require_choice(getattr(self, name), f"recipe's {name}", choices)
        if not (self.transform is None or callable(self.transform)):
            raise InputError(f"the recipe's transform is a function of the converted model, not {self.transform!r}")
        known_arithmetics = get_args(Arithmetic)
        if not self.arithmetics or not set(self.arithmetics) <= set(known_arithmetics):
            raise InputError(
                f"the recipe's arithmetics are some of {', '.join(map(repr, known_arithmetics))}, "
                f"not {self.arithmetics!r}"
            )

    def _check_block(self) -> None:
        if not isinstance(self.norm, LayerScale) or self.wgrad_error != "error":
            raise InputError("errors at the activation go with norm LayerScale and one error for both products")
        if self.activation is not None and not isinstance(self.activation, Direct):
            raise InputError(f"errors at the activation go with activations on a Direct grid, not on {self.activation}")
        if self.error is not None and not self.error.code_dtype.startswith("int"):
            raise InputError(f"errors at the activation go with signed codes, whose 0 is 0, not with {self.error}")
        beside = [name for name in ("output", "branch_error", "norm_error", "trunk") if getattr(self, name) is not None]
        if beside:
            raise InputError(f"errors at the activation leave no room for the slot {beside[0]}")

    @property
    def converts(self) -> bool:
        """Whether any layer has to be replaced."""
        return replace(self, update=Update(), autocast=None, transform=None, **_FREE) != Recipe()

    @property
    def stays_float(self) -> bool:
        """Whether training is all in floats (``fp32``, ``bf16``): no number format, no transform, no update on a
        grid."""
        return not self.converts and self.transform is None and type(self.update) in (Update, ClippedMaster)

    def with_float_operands(self) -> Recipe:
        """The recipe of a layer that stays float: its norm follows the recipe, its operands do not."""
        none: dict[str, Any] = dict.fromkeys(
            ("weight", "activation", "input", "bias", "output", "error", "branch_error", "norm_error", "gradient")
        )
        return replace(self, wgrad_error="error", wgrad_line=False, **none)

    def without_formats(self) -> Recipe:
        """The same norm and blocks with every number format taken out: what is approximated.

        The update rule is the suite's own. A ``transform`` stays, with whatever it quantises.
        """
        formats: dict[str, Any] = {name: None for name, value in self.slots().items() if isinstance(value, Quantizer)}
        inside = {f.name: None for f in fields(self.norm) if isinstance(getattr(self.norm, f.name), Quantizer)}
        norm: Norm = replace(self.norm, **inside)  # type: ignore[arg-type]
        errors = {"wgrad_error": "error", "wgrad_line": False}
        return replace(self, **{**formats, **errors, "autocast": None, "norm": norm, "update": Update()})

    def slots(self) -> dict[str, object]:
        """Field name to value, for listings."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


_FORMATS = (
    "weight", "activation", "input", "bias", "output", "error", "wgrad_error", "branch_error", "norm_error", "gradient",
    "trunk",
)  # fmt: skip
_KINDS = {"norm": Norm, "update": Update}
_CHOICES = {
    "error_at": ("product", "activation"),
    "first_layer": get_args(LayerPolicy),
    "last_layer": get_args(LayerPolicy),
    "inference_weight": ("quantized", "float", "ensemble"),
    "autocast": (None, "bfloat16", "float16"),
}
_FREE: dict[str, Any] = {"first_layer": "quantized", "last_layer": "quantized", "arithmetics": ("integer", "simulated")}
