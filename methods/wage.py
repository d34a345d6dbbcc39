"""WAGE, training and inference with integers: Wu, Li, Chen, Shi 2018, arXiv:1802.04680."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Interval

from qbench import BatchNorm, Direct, LayerScale, Recipe, Shift, ShiftStep, Update, method

FLOAT_BITS = 32
BETA = 1.5
INPUT_INTEGER_BITS = 2

WeightBits = Annotated[int, Interval(ge=2, le=16)] | Literal[32]
SignalBits = Annotated[int, Interval(ge=3, le=16)] | Literal[32]


@method(
    "wage",
    paper="arXiv:1802.04680",
    null={"weight_bits": 32, "activation_bits": 32, "gradient_bits": 32, "error_bits": 32, "norm": "batch"},
    presets={
        "paper": {
            "weight_bits": 2, "activation_bits": 8, "gradient_bits": 8, "error_bits": 8, "norm": "layer_scale",
            "variant": "paper", "lr": 8.0,
        },
        "code": {
            "weight_bits": 2, "activation_bits": 8, "gradient_bits": 8, "error_bits": 8, "norm": "layer_scale",
            "variant": "code", "lr": 8.0,
        },
        "imagenet": {"gradient_bits": 12, "error_bits": 12, "lr": 32.0},
    },
    deviations=(
        "the suite's loss, where the authors' small nets minimise the sum of squared errors; as in their ImageNet net, "
        "which has a softmax too, the last layer's output is not quantised",
        "images come standardised, not in [-1, 1]: two of the bits of their codes are integer bits",
        "the shared initial weights, mapped by rank onto the paper's uniform distribution, stand in for a draw from it",
        "errors keep their power-of-two scale, which the paper drops: no later step of a chain of layers can tell, and "
        "the sum over a residual branch and its trunk needs it",
        "what the authors' nets do not have: residual sums and shortcuts are quantised as activations; average pooling "
        "is float, and so is the classifier's bias, which the suite's optimiser trains",
        "max pooling takes quantised activations, the authors' what is in front of the ReLU: more values are equal, "
        "and the first of them takes the gradient",
        "with norm batch a clipped activation passes its gradient on, which the authors' code stops at the clip",
        "the schedule is the suite's; its product with the learning rate is rounded to a power of two",
    ),
)  # fmt: skip
def wage(
    *,
    weight_bits: WeightBits = 2,
    activation_bits: SignalBits = 8,
    gradient_bits: WeightBits = 8,
    error_bits: SignalBits = 8,
    norm: Literal["layer_scale", "batch"] = "layer_scale",
    variant: Literal["paper", "code"] = "paper",
    lr: Annotated[float, Gt(0)] = 8.0,
) -> Recipe:
    """Weights, activations, gradients and errors as integers, scaled by shifts alone; no norm, momentum or decay.

    weight_bits: of weights in products. activation_bits, error_bits: of what flows forward and back. gradient_bits: of
    the stored weights, whose grid is the smallest update (32 bits: float everywhere). norm: the constant scale of each
    layer, or the model's own batch norm, with errors then taken behind it. variant: ``paper`` starts within
    sqrt(6 / fan-in); ``code`` within sqrt(3 / fan-in), rounds the start to weight_bits and clips stored weights to
    their range. lr: the shift-based rate, before the suite's schedule.
    """
    activation = _grid(activation_bits)
    is_scaled = norm == "layer_scale"
    return Recipe(
        weight=_grid(min(weight_bits, gradient_bits)),
        activation=activation,
        input=_input(activation_bits),
        error=Shift(error_bits) if error_bits < FLOAT_BITS else None,
        error_at="activation" if is_scaled else "product",
        trunk=None if is_scaled else activation,
        norm=LayerScale(_numerator(variant), _smallest(weight_bits)) if is_scaled else BatchNorm(),
        update=_update(weight_bits, gradient_bits, variant, lr),
    )


def _update(weight_bits: int, gradient_bits: int, variant: Literal["paper", "code"], lr: float) -> Update:
    if min(weight_bits, gradient_bits) == FLOAT_BITS:
        return Update()
    master, start = None, None
    if gradient_bits < FLOAT_BITS:
        master = _grid(gradient_bits)
        if variant == "code" and weight_bits < gradient_bits:
            start = _grid(weight_bits)
            master = Direct(gradient_bits, 1 - 2.0 ** (1 - weight_bits))
    return ShiftStep(lr, master, start, _numerator(variant), _smallest(weight_bits))


def _numerator(variant: str) -> float:
    return 6.0 if variant == "paper" else 3.0


def _smallest(weight_bits: int) -> float:
    return BETA * 2.0 ** (1 - weight_bits)


def _grid(bits: int) -> Direct | None:
    """Q(x, bits): multiples of 2^(1 - bits) inside (-1, 1)."""
    return Direct(bits, 1 - 2.0 ** (1 - bits)) if bits < FLOAT_BITS else None


def _input(bits: int) -> Direct | None:
    """As many codes as :func:`_grid`, over a range 2^INPUT_INTEGER_BITS times as wide."""
    if bits == FLOAT_BITS:
        return None
    step = 2.0 ** (1 - bits + INPUT_INTEGER_BITS)
    return Direct(bits - INPUT_INTEGER_BITS, 2.0**INPUT_INTEGER_BITS - step)
