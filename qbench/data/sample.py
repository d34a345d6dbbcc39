"""A small tree of generated JPEGs in ImageNet's layout, to try the whole path without ImageNet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qbench.data.cache import writable_dir
from qbench.data.streams import Streams
from qbench.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Field = NDArray[np.floating[Any]]
    Pattern = Callable[[Field, Field], Field]
    """Coordinates u, v (periods; any real number) to brightness in 0..1, all of shape [H, W]."""


def _wave(phase: Field) -> Field:
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * phase), np.float32)


def _cell(u: Field, v: Field) -> tuple[Field, Field]:
    """Position within the unit cell, from its middle: -0.5 .. 0.5."""
    return u - np.floor(u) - 0.5, v - np.floor(v) - 0.5


def _dots(u: Field, v: Field) -> Field:
    x, y = _cell(u, v)
    return np.asarray(x * x + y * y < 0.1, np.float32)


def _bricks(u: Field, v: Field) -> Field:
    x, y = _cell(u + np.float32(0.5) * (np.floor(2 * v) % 2), 2 * v)
    return np.asarray((np.abs(x) < 0.42) & (np.abs(y) < 0.38), np.float32)


def _crosses(u: Field, v: Field) -> Field:
    x, y = _cell(u, v)
    thin, long = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return np.asarray((thin < 0.1) & (long < 0.38), np.float32)


def _triangles(u: Field, v: Field) -> Field:
    x, y = _cell(u, v)
    return np.asarray((y < 0.35) & (y > -0.35) & (2 * np.abs(x) < y + 0.35), np.float32)


_PATTERNS: dict[str, Pattern] = {
    "bricks": _bricks,
    "checks": lambda u, v: np.asarray((np.floor(2 * u) + np.floor(2 * v)) % 2, np.float32),
    "crosses": _crosses,
    "dots": _dots,
    "rings": lambda u, v: _wave(np.hypot(u, v)),
    "spirals": lambda u, v: _wave(np.hypot(u, v) + np.arctan2(v, u) / np.float32(np.pi)),
    "stripes": lambda u, v: _wave(u),
    "triangles": _triangles,
}
_SCALES = {"fine": (14, 24), "medium": (32, 50), "coarse": (70, 110)}
"""Pixels per period."""

_NAMES = [f"{scale}_{pattern}" for scale in ("medium", "fine", "coarse") for pattern in _PATTERNS]
_SIDES = (300, 500)


def write_sample_imagenet(
    out: Path | str, *, classes: int = 8, train_per_class: int = 40, val_per_class: int = 10
) -> None:
    """Write ``classes`` class folders of drawn textures to OUT/train and OUT/val, as JPEGs of 300 to 500 pixels.

    A class is a pattern at a scale (``medium_dots``); colours, rotation, position, lighting and noise vary within
    it. The same arguments give the same pictures. classes: 2 to 24; train_per_class: >= 2; val_per_class: >= 1.
    Raises :class:`InputError` for other numbers and :class:`DataError` when ``out`` is not an empty or new directory or
    has no room.
    """
    out = Path(out).expanduser()
    _check_counts(classes, train_per_class, val_per_class)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is not an empty directory, and a sample never overwrites; choose a new directory")
    # Moved to its place when complete: an interrupted sample leaves no half tree behind.
    place = writable_dir(out, "the sample's directory")
    try:
        with tempfile.TemporaryDirectory(prefix=".sample.", dir=place) as name:
            temporary = Path(name)
            for label, folder in enumerate(_NAMES[:classes]):
                _write_class(temporary / "train" / folder, label, 0, train_per_class)
                _write_class(temporary / "val" / folder, label, train_per_class, val_per_class)
            for part in ("train", "val"):
                (temporary / part).rename(out / part)
    except OSError as error:
        why = error.strerror or error
        raise DataError(
            f"the sample cannot be written to {out}: {why}; make room or choose another directory"
        ) from None


def _check_counts(classes: int, train_per_class: int, val_per_class: int) -> None:
    limits = (("classes", classes, 2, len(_NAMES)), ("train_per_class", train_per_class, 2, None),
              ("val_per_class", val_per_class, 1, None))  # fmt: skip
    for name, value, low, high in limits:
        if value < low or (high is not None and value > high):
            wanted = f"at least {low}" if high is None else f"{low} to {high}"
            raise InputError(f"a sample needs {name} of {wanted}, not {value}")


def _write_class(folder: Path, label: int, first: int, count: int) -> None:
    folder.mkdir(parents=True)
    streams = Streams()
    for number in range(first, first + count):
        picture = Image.fromarray(_picture(streams.at((label, number)), _NAMES[label]))
        picture.save(folder / f"{folder.name}_{number:05d}.JPEG", quality=88)


def _picture(draws: np.random.Generator, name: str) -> NDArray[np.uint8]:
    """One texture, uint8 [H, W, 3]."""
    scale, _, pattern = name.partition("_")
    height, width = (int(side) for side in draws.integers(_SIDES[0], _SIDES[1] + 1, 2))
    turn, period = draws.uniform(0, 2 * np.pi), draws.uniform(*_SCALES[scale])
    x = np.arange(width, dtype=np.float32) - np.float32(draws.uniform(0, width))
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(draws.uniform(0, height))
    cos, sin = np.float32(np.cos(turn) / period), np.float32(np.sin(turn) / period)
    brightness = _PATTERNS[pattern](cos * x + sin * y, cos * y - sin * x)
    light = 1 + np.float32(draws.uniform(-6e-4, 6e-4)) * x + np.float32(draws.uniform(-6e-4, 6e-4)) * y
    noise = draws.random((height, width), np.float32) * np.float32(draws.uniform(10, 60))
    low, high = _colours(draws)
    picture = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        plane = (low[channel] + (high - low)[channel] * brightness) * light + noise
        picture[..., channel] = np.clip(plane, 0, 255)
    return picture


def _colours(draws: np.random.Generator) -> tuple[Field, Field]:
    """Two colours [3] that differ by at least a quarter of full scale in some channel."""
    while True:
        low, high = draws.uniform(10, 210, (2, 3)).astype(np.float32)
        if np.abs(high - low).max() >= 64:
            return low, high
