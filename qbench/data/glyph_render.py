"""Draws the glyphs data set: one character per 32x32 colour image, on clutter.

An item is a pure function of its number: random draws come from a Philox generator keyed by it. Run as a program
(``python -m qbench.data.glyph_render START STOP``) it writes the pixels of a range of items to standard output, which
is how several processes share the work without pickling or forking.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from qbench.data.streams import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1
"""To be raised with every change that changes pixels: it is part of the fingerprint."""

SIZE = 32
ALPHABET = "ABEFGHKMNPRS2358"
"""The classes. None turns into another by rotation; many differ by one stroke (E F, P R, B 8, S 5, 3 8, H M N)."""

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10",
)  # fmt: skip
"""Fonts that ship with matplotlib and hold the whole alphabet."""

_CLUTTER = "abcdefghijklmnopqrstuvwxyzCDIJLOQTUVWXYZ14679"
_SEED = 20_32
_DRAWS = 128
"""Uniform numbers drawn per item; a few more than the busiest picture takes."""
_RAMP = np.linspace(-1, 1, SIZE, dtype=np.float32)

Colour = tuple[float, ...]
"""Red, green and blue, 0..255."""


def font_path(name: str) -> Path:
    """The file of a font, found without importing matplotlib (which takes a while)."""
    spec = find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"


def label_of(item: int) -> int:
    """The class of an item: consecutive items run through the alphabet, so every range is balanced."""
    return item % len(ALPHABET)


class Draws:
    """The random numbers of one item: uniform numbers by the hundred, because single calls cost microseconds."""

    def __init__(self) -> None:
        self._streams = Streams()

    def begin(self, item: int) -> None:
        """Go to the beginning of the item's stream."""
        self._generator = self._streams.at((_SEED, item))
        self._uniform = iter(cast("list[float]", self._generator.random(_DRAWS).tolist()))

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * next(self._uniform)

    def below(self, limit: int) -> int:
        """A whole number in 0 .. limit - 1."""
        return int(limit * next(self._uniform))

    def noise(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Float32 numbers in [-1, 1)."""
        noise = self._generator.random(shape, np.float32)
        noise *= 2
        noise -= 1
        return noise


def render_range(start: int, stop: int) -> NDArray[np.uint8]:
    """The pixels [stop - start, 3, 32, 32] of the items number ``start`` (>= 0) to ``stop`` - 1."""
    draws = Draws()
    images = np.empty((stop - start, 3, SIZE, SIZE), np.uint8)
    for item in range(start, stop):
        draws.begin(item)
        images[item - start] = _render(draws, ALPHABET[label_of(item)])
    return images


def _render(draws: Draws, character: str) -> NDArray[np.uint8]:
    """One image [3, 32, 32] of ``character``."""
    ground: Colour = tuple(draws.between(0, 255) for _ in range(3))
    image = Image.new("RGB", (SIZE, SIZE), _pixel(ground))
    for _ in range(draws.below(4)):
        image.paste(_ink(draws, ground, 40, 180), mask=_stray_letter(draws))
    for _ in range(draws.below(3)):
        _draw_line(draws, image, ground)
    image.paste(_ink(draws, ground, 90, 250), mask=_subject(draws, character))
    if draws.between(0, 1) < 0.3:
        _draw_line(draws, image, ground)
    return _lit(draws, np.asarray(image).transpose(2, 0, 1))


def _lit(draws: Draws, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``pixels`` [3, 32, 32] under a linear gradient of coloured light, with sensor noise."""
    light = draws.noise(pixels.shape)
    light *= draws.between(0, 36)
    slope = np.array([draws.between(-32, 32) for _ in range(6)], np.float32).reshape(2, 3, 1, 1)
    light += slope[0] * _RAMP + slope[1] * _RAMP[:, None]
    light += pixels
    np.rint(light, out=light)
    return np.clip(light, 0, 255, out=light).astype(np.uint8)


def _ink(draws: Draws, ground: Colour, low: float, high: float) -> tuple[int, ...]:
    """A colour at a Euclidean distance of ``low`` to ``high`` from ``ground``, as far as the colour cube allows.

    Lighter than a dark ground and darker than a light one, either on a medium one; the hue is free.
    """
    sign = -1 if sum(ground) / 3 > draws.between(90, 165) else 1
    direction = [draws.between(-0.3, 1) for _ in range(3)]
    scale = sign * draws.between(low, high) / math.hypot(*direction)
    return _pixel(tuple(g + part * scale for g, part in zip(ground, direction, strict=True)))


def _pixel(colour: Colour) -> tuple[int, ...]:
    return tuple(min(255, max(0, round(part))) for part in colour)


def _subject(draws: Draws, character: str) -> Image.Image:
    """The character itself, near the middle."""
    template = _template(_font_of(draws), 17 + draws.below(9), character)
    x, y = SIZE / 2 + draws.between(-4, 4), SIZE / 2 + draws.between(-4, 4)
    return _placed(draws, template, x, y, max_degrees=20)


def _stray_letter(draws: Draws) -> Image.Image:
    """Another letter, most of it beyond the border."""
    character = _CLUTTER[draws.below(len(_CLUTTER))]
    template = _template(_font_of(draws), 12 + 4 * draws.below(3), character)
    bearing, distance = draws.between(0, 2 * math.pi), draws.between(15, 21)
    x, y = SIZE / 2 + distance * math.cos(bearing), SIZE / 2 + distance * math.sin(bearing)
    return _placed(draws, template, x, y, max_degrees=180)


def _placed(draws: Draws, template: Image.Image, x: float, y: float, *, max_degrees: float) -> Image.Image:
    """``template`` rotated, sheared and stretched, its centre at (x, y): a mask [32, 32]."""
    turn, shear = math.radians(draws.between(-max_degrees, max_degrees)), draws.between(-0.25, 0.25)
    stretch = math.exp(draws.between(-0.15, 0.15))
    cos, sin = math.cos(turn), math.sin(turn)
    # Pillow wants the inverse map: from the mask's pixels to the template's.
    a, b = stretch * (cos + shear * sin), stretch * (sin - shear * cos)
    c, d = -sin / stretch, cos / stretch
    middle_x, middle_y = template.width / 2, template.height / 2
    coefficients = (a, b, middle_x - a * x - b * y, c, d, middle_y - c * x - d * y)
    return template.transform((SIZE, SIZE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


def _draw_line(draws: Draws, image: Image.Image, ground: Colour) -> None:
    ends = [draws.between(-4, SIZE + 4) for _ in range(4)]
    ImageDraw.Draw(image).line(ends, fill=_ink(draws, ground, 40, 180), width=1 + draws.below(2))


def _font_of(draws: Draws) -> str:
    return FONTS[draws.below(len(FONTS))]


@cache
def _template(font: str, pixels_high: int, character: str) -> Image.Image:
    """The character's mask, its capitals ``pixels_high`` high, with a border so that its edges stay soft."""
    face = _face(font, pixels_high)
    left, top, right, bottom = face.getbbox(character)
    mask = Image.new("L", (math.ceil(right - left) + 4, math.ceil(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), character, fill=255, font=face)
    return mask


@cache
def _face(font: str, pixels_high: int) -> ImageFont.FreeTypeFont:
    """Capitals are about 0.7 em high in these fonts. Basic layout: Raqm is not on every machine."""
    return ImageFont.truetype(font_path(font), round(pixels_high / 0.7), layout_engine=ImageFont.Layout.BASIC)


if __name__ == "__main__":
    sys.stdout.buffer.write(render_range(int(sys.argv[1]), int(sys.argv[2])).tobytes())
