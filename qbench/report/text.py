"""How numbers are written in tables and on axes: fixed digits, so that equal results give equal bytes."""

from __future__ import annotations

import math

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
MISSING = "\N{EN DASH}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def percent(value: float) -> str:
    """``98.52``."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """``+0.31``, ``\N{MINUS SIGN}0.31``, and ``0.00`` without a sign."""
    written = f"{value:+.2f}"
    return "0.00" if written in {"+0.00", "-0.00"} else written.replace("-", MINUS)


def ratio(value: float) -> str:
    """``0.95``; two digits, or two significant ones below 0.1."""
    return f"{value:.2f}" if value >= 0.1 or value == 0 else significant(value, 2)


def speed(value: float) -> str:
    """``1,234`` from 100 on, else three significant digits."""
    return f"{value:,.0f}" if value >= 99.95 else significant(value, 3)


def energy(value: float) -> str:
    """Three significant digits."""
    return significant(value, 3)


def memory(value: float) -> str:
    """``311 KiB``: a power of 1024 and three significant digits."""
    power = min(max(int(value).bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    if power < len(_UNITS) - 1 and round(value / 1024**power) == 1024:
        power += 1  # just below a power it is written as that power
    digits = f"{value:.0f}" if power == 0 else significant(value / 1024**power, 3)
    return f"{digits} {_UNITS[power]}"


def significant(value: float, digits: int) -> str:
    """``value`` with this many significant digits, never in exponent form above 1e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.{digits - 1}f}"
    decimals = decimals_of(value, digits)
    return f"{value:.{decimals}f}" if decimals < 8 else f"{value:.{digits - 1}e}"


def tidy(value: float) -> float:
    """Ten significant digits, since the last bits of a sum may depend on the machine; whole numbers as such."""
    short = float(f"{value:.10g}")
    return int(short) if short.is_integer() else short


def decimals_of(value: float, digits: int) -> int:
    """How many decimals ``value`` has with this many significant digits; as it is rounded, 9.996 to 10.0."""
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return max(digits - 1 - exponent, 0)


def clean(value: str) -> str:
    """``value`` on one line and without control characters, so that no user string can move the cursor."""
    return "".join(character if character.isprintable() else " " for character in value)


def titled(title: str, description: str | None) -> str:
    """``title: description``, or the title alone where there is nothing to say."""
    return f"{title}: {description}" if description else title


def counted(number: int, word: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
