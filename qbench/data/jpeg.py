"""From an image file to the square that a network sees: torchvision's standard crops, with Pillow."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from qbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

AREA = (0.08, 1.0)
"""A training crop's share of the image (Szegedy et al. 2015)."""
RATIO = (3 / 4, 4 / 3)
"""A training crop's width over its height."""
ATTEMPTS = 10


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom are excluded."""

    left: float
    top: float
    right: float
    bottom: float


class CropDraws(NamedTuple):
    """The random numbers of a batch's crops, drawn before any file is opened: threads cannot reorder them.

    uniform float64 [N, ATTEMPTS, 4] in [0, 1): area, ratio, row and column of every attempt; flip bool [N].
    """

    uniform: NDArray[np.float64]
    flip: NDArray[np.bool_]

    @staticmethod
    def draw(generator: np.random.Generator, number: int) -> CropDraws:
        """The draws of ``number`` items."""
        return CropDraws(generator.random((number, ATTEMPTS, 4)), generator.random(number) < 0.5)


def random_box(width: int, height: int, uniform: NDArray[np.float64]) -> Box:
    """torchvision's RandomResizedCrop: the first attempt that fits into the image, else the largest central crop.

    uniform [ATTEMPTS, 4] as in :class:`CropDraws`.
    """
    for area, ratio, row, column in uniform.tolist():
        pixels = width * height * (AREA[0] + area * (AREA[1] - AREA[0]))
        aspect = RATIO[0] * (RATIO[1] / RATIO[0]) ** ratio
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = math.floor(column * (width - w + 1)), math.floor(row * (height - h + 1))
            return Box(left, top, left + w, top + h)
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return Box(left, top, left + w, top + h)


def training_view(path: Path, size: int, uniform: NDArray[np.float64], *, flip: bool) -> NDArray[np.uint8]:
    """A random crop of the image resized to uint8 [size, size, 3], mirrored where ``flip``."""
    with _opened(path) as image:
        box = random_box(*image.size, uniform)
        scale = _draft(image, size / min(box.right - box.left, box.bottom - box.top))
        box = Box(*(edge * along for edge, along in zip(box, scale * 2, strict=True)))
        view = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(view, np.uint8)
    return pixels[:, ::-1] if flip else pixels


def evaluation_view(path: Path, size: int) -> NDArray[np.uint8]:
    """The central crop uint8 [size, size, 3] after the shorter side was resized to size * 256 / 224."""
    with _opened(path) as image:
        width, height = image.size
        shorter = round(size * 256 / 224)
        _draft(image, shorter / min(width, height))
        resized = (max(shorter, shorter * width // height), max(shorter, shorter * height // width))
        view = image.convert("RGB").resize(resized, Image.Resampling.BILINEAR)
    left, top = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
    return np.asarray(view, np.uint8)[top : top + size, left : left + size]


def _draft(image: Image.Image, factor: float) -> tuple[float, float]:
    """Let the JPEG decoder itself halve the image (to 1/2, 1/4, 1/8) as long as it stays at ``factor`` or above.

    Returns the size it will have over the size it had, for width and height; (1, 1) for other formats.
    """
    width, height = image.size
    if factor < 1:
        image.draft(image.mode, (math.ceil(width * factor), math.ceil(height * factor)))
    return image.size[0] / width, image.size[1] / height


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image ({error}); replace or remove the file") from None
