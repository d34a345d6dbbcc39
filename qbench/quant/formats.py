"""Number formats as plain data: which grid a tensor is rounded to, and how.

A format says *what* is done; :mod:`qbench.quant.quantize` does it, and the integer kernels do it too.
This module imports nothing heavy, so methods can be listed and checked without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from qbench.errors import InputError

Rounding = Literal["nearest", "stochastic"]
"""``nearest`` rounds half to even; ``stochastic`` rounds up with the fraction as probability (unbiased)."""

Granularity = Literal["tensor", "channel"]
"""One scale for the tensor, or one per output channel (dimension 0)."""

CodeType = Literal["uint8", "int8", "int16", "int32", "float16", "bfloat16"]
"""What codes are stored in; the two floats belong to :class:`Float`, which has no codes."""

WIDEST = 2.0**24
"""Largest magnitude of a code: what a float32 represents exactly, so that codes can be rounded in float32."""


_MOST_BITS = 24


def _signed_type(largest: float) -> CodeType:
    """The narrowest signed integer for codes in [-largest, largest]."""
    if largest <= 127:
        return "int8"
    return "int16" if largest <= 32767 else "int32"


def _require_bits(quantizer: Affine | Symmetric | Direct | Shift | Flag | Levels, fewest: int, most: int) -> None:
    """Refuse a width without codes, which would make every value 0 or NaN, and one that float32 cannot round to."""
    if not fewest <= quantizer.bits <= most:
        form = type(quantizer).__name__
        raise InputError(f"{form} has from {fewest} to {most} bits, not {quantizer.bits}; change its bits")


def require_choices(owner: Any) -> None:
    """Refuse a field of a dataclass that is none of the words its type allows: a misspelt rounding would otherwise be
    taken for another one."""
    for name, choices in _choices_of(type(owner)):  # type: ignore[arg-type]  # types are hashable
        require_choice(getattr(owner, name), f"{name} of {type(owner).__name__}", choices)


def require_choice(value: object, what: str, choices: tuple[object, ...]) -> None:
    """Refuse a value that is none of these."""
    if value not in choices:
        raise InputError(f"the {what} is one of {', '.join(map(repr, choices))}, not {value!r}")


@cache
def _choices_of(form: type) -> tuple[tuple[str, tuple[object, ...]], ...]:
    hints = get_type_hints(form)
    return tuple((name, get_args(hint)) for name, hint in hints.items() if get_origin(hint) is Literal)


@dataclass(frozen=True)
class Quantizer:
    """Base of all formats."""

    def __post_init__(self) -> None:
        require_choices(self)

    @property
    def storage_bits(self) -> float:
        """Bits that one stored value takes (scales excluded)."""
        raise TypeError(f"{type(self).__name__} does not say how many bits it stores")

    @property
    def bound_bits(self) -> float:
        """Bits that are enough for every code, infinite where the format does not bound its codes."""
        return self.storage_bits

    @property
    def largest_integer(self) -> float:
        """Largest magnitude of a code relative to its zero point; infinite where the format does not bound it."""
        return math.inf

    @property
    def code_dtype(self) -> CodeType:
        """The integer type that holds the codes: the narrowest that holds every one of them."""
        return _signed_type(self.largest_integer)

    @property
    def is_fixed_grid(self) -> bool:
        """Whether the values do not depend on the tensor: then those of the format keep their codes when they are
        encoded again, however that rounds."""
        return False

    @property
    def is_stochastic(self) -> bool:
        """Whether encoding draws random bits."""
        return getattr(self, "rounding", "nearest") == "stochastic"


@dataclass(frozen=True)
class Affine(Quantizer):
    """Unsigned codes with a scale and an offset: x = scale * (code - zero_point).

    ``zero_point`` (GEMMLOWP, the scheme cited by Banner et al. 2018, section 4): scale = (max - min) / 2^bits,
    integer zero point, so that real zero is a code. ``min_offset`` (the authors' code): scale =
    (max - min) / (2^bits - 1), zero_point = -min / scale, not an integer.

    range: ``minmax`` takes the tensor's extremes; ``mean_minmax`` averages the extremes of the batch's
    samples (values outside are clipped, the gradient passes). tracked: the exponential average
    of the range is kept and used at inference; ``old_weight`` multiplies the old value.
    """

    bits: int = 8
    rounding: Rounding = "nearest"
    scheme: Literal["zero_point", "min_offset"] = "zero_point"
    granularity: Granularity = "tensor"
    range: Literal["minmax", "mean_minmax"] = "minmax"
    tracked: bool = False
    old_weight: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bits(self, 1, _MOST_BITS)
        if not 0 <= self.old_weight <= 1:
            raise InputError(f"the old_weight of Affine lies in [0, 1], not at {self.old_weight}")

    @property
    def takes_extremes(self) -> bool:
        """Whether the range is the tensor's smallest and largest value."""
        return self.granularity == "tensor" and self.range == "minmax"

    @property
    def largest_integer(self) -> float:
        return 2.0**self.bits - 1

    @property
    def code_dtype(self) -> CodeType:
        return "uint8" if self.bits <= 8 else "int32"

    @property
    def storage_bits(self) -> float:
        return self.bits


@dataclass(frozen=True)
class Symmetric(Quantizer):
    """Signed codes in [-(2^(bits-1) - 1), 2^(bits-1) - 1] with scale = max|x| / (2^(bits-1) - 1)."""

    bits: int = 8
    rounding: Rounding = "nearest"
    granularity: Granularity = "tensor"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bits(self, 2, _MOST_BITS)

    @property
    def largest_integer(self) -> float:
        return 2.0 ** (self.bits - 1) - 1

    @property
    def storage_bits(self) -> float:
        return self.bits


@dataclass(frozen=True)
class Float(Quantizer):
    """A narrower float: ``float16`` or ``bfloat16``, rounded to nearest even."""

    dtype: Literal["float16", "bfloat16"] = "float16"

    @property
    def storage_bits(self) -> float:
        return 16

    @property
    def bound_bits(self) -> float:
        return math.inf  # the observed values are no codes

    @property
    def code_dtype(self) -> CodeType:
        return self.dtype


@dataclass(frozen=True)
class Direct(Quantizer):
    """WAGEUBN's direct quantisation Q(x, k) = round(x * 2^(k-1)) / 2^(k-1): k fixes the grid, not the width.

    limit: clip to +-limit. ``None`` does not clip, so codes may need more than k bits: they are stored in 16 bits for
    k <= 8, in 32 above, and saturate where those end (at +-256 or beyond for k = 8).
    """

    bits: int
    limit: float | None = None
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bits(self, 1, _MOST_BITS)
        if self.largest_integer < 1:
            raise InputError(
                f"Direct with {self.bits} bits and limit {self.limit} has no value but 0; give it a limit of at least "
                f"{2.0 ** (1 - self.bits)}, or more bits"
            )

    @property
    def is_fixed_grid(self) -> bool:
        return True

    @property
    def largest_integer(self) -> float:
        if self.limit is None:
            return 2.0**15 - 1 if self.bits <= 8 else WIDEST
        return self.limit * 2.0 ** (self.bits - 1)

    @property
    def storage_bits(self) -> float:
        return self.bits

    @property
    def bound_bits(self) -> float:
        if self.limit is None:
            return math.inf
        return max(self.bits, 1 + int(self.limit * 2 ** (self.bits - 1)).bit_length())


@dataclass(frozen=True)
class Shift(Quantizer):
    """WAGEUBN's shift quantisation SQ(x, k) = R * clip(Q(x / R, k)), R = 2^round(log2 max|x|).

    clip: ``inside`` clips at +-(1 - 2^(1-k)) as in the paper's transcription (255 levels for k = 8),
    ``one`` at +-1 as in the authors' code (257 levels).
    """

    bits: int = 8
    clip: Literal["inside", "one"] = "inside"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bits(self, 2 if self.clip == "inside" else 1, _MOST_BITS)

    @property
    def largest_integer(self) -> float:
        return 2.0 ** (self.bits - 1) - (self.clip == "inside")

    @property
    def storage_bits(self) -> float:
        return self.bits if self.clip == "inside" else self.bits + 1


@dataclass(frozen=True)
class Flag(Quantizer):
    """WAGEUBN's flag format for E2: one flag bit chooses between a coarse and a 2^(k-1) times finer grid.

    With Sc = R / 2^(k-1) and y = x / Sc: values with |y| >= 1 become Sc * clip(round(y)), smaller ones Sc * Q(y, k).
    """

    bits: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bits(self, 1, 8)  # codes count the fine grid in 16 bits

    @property
    def largest_integer(self) -> float:
        return 2.0 ** (self.bits - 1) * (2.0 ** (self.bits - 1) - 1)

    @property
    def code_dtype(self) -> CodeType:
        return "int16"

    @property
    def storage_bits(self) -> float:
        return self.bits + 1

    @property
    def bound_bits(self) -> float:
        return 2 * self.bits - 1  # codes count the fine grid


@dataclass(frozen=True)
class Constant(Quantizer):
    """WAGEUBN's constant quantisation CQ(x) = clip(SR(dr * x / R), +-(dr - 1)) / 2^(grid_bits - 1).

    The tensor's magnitude is discarded on purpose. levels: dr; its schedule belongs to the update rule.
    """

    levels: int = 128
    grid_bits: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.levels <= WIDEST:
            raise InputError(f"Constant has from 2 to 2^24 levels, not {self.levels}; fewer leave nothing but 0")

    @property
    def largest_integer(self) -> float:
        return self.levels - 1.0

    @property
    def storage_bits(self) -> float:
        return self.levels.bit_length()

    @property
    def is_stochastic(self) -> bool:
        return True


@dataclass(frozen=True)
class Binary(Quantizer):
    """The grid {-scale, +scale}: nearest is the sign (0 maps to +scale), stochastic draws
    +scale with probability clip((x / scale + 1) / 2, 0, 1) (Courbariaux et al. 2015, section 2.3).

    scale: a number, or ``glorot`` for the layer's own coefficient c = sqrt(1.5 / (n_in + n_out)).
    """

    scale: float | Literal["glorot"] = 1.0
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale != "glorot" and not (isinstance(self.scale, float | int) and 0 < self.scale < math.inf):
            raise InputError(f"the scale of Binary is a number above 0 or 'glorot', not {self.scale!r}")

    @property
    def largest_integer(self) -> float:
        return 1.0

    @property
    def storage_bits(self) -> float:
        return 1

    @property
    def bound_bits(self) -> float:
        return 2  # -1 and +1 as integers


@dataclass(frozen=True)
class FixedPoint(Quantizer):
    """Gupta et al. 2015, <IL, FL>: step 2^-FL, range [-2^(IL-1), 2^(IL-1) - 2^-FL], saturating.

    nearest rounds half up, as in the paper: floor(x / step + 1/2).
    """

    integer_bits: int
    fraction_bits: int
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        length = self.integer_bits + self.fraction_bits
        if not 1 <= length <= _MOST_BITS:
            raise InputError(
                f"integer and fraction bits of FixedPoint make words of 1 to {_MOST_BITS} bits, not {length}"
            )

    @property
    def is_fixed_grid(self) -> bool:
        return True

    @property
    def largest_integer(self) -> float:
        return 2.0 ** (self.integer_bits + self.fraction_bits - 1)

    @property
    def code_dtype(self) -> CodeType:
        return _signed_type(self.largest_integer - 1)

    @property
    def storage_bits(self) -> float:
        return self.integer_bits + self.fraction_bits


@dataclass(frozen=True)
class Levels(Quantizer):
    """A fixed grid for a unit-variance input (Graham 2017: normalise, then quantise; the level sets
    of the paper are not known to us, so the four natural candidates for N(0, 1) are offered)."""

    bits: int = 4
    grid: Literal["uniform", "equal_area", "lloyd_max", "log"] = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bits(self, 1, 8)

    @property
    def storage_bits(self) -> float:
        return self.bits

    @property
    def code_dtype(self) -> CodeType:
        return "uint8"
