"""Option types that method signatures share: a type and its bounds in one name."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval

Bits = Annotated[int, Interval(ge=1, le=32)]
"""A bit width; 32 means the path stays in float32."""

PositiveInt = Annotated[int, Ge(1)]

Fraction = Annotated[float, Interval(ge=0.0, le=1.0)]
