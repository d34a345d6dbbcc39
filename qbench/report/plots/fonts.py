"""Fonts for the names that users choose: one with Chinese, Japanese and Korean characters, where there is one."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# matplotlib brings this one along, so that pictures look the same everywhere.
_OWN = "DejaVu Sans"
_EAST_ASIAN = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP",
    "Source Han Sans SC", "Source Han Sans JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "IPAexGothic", "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip


@cache
def families() -> tuple[str, ...]:
    """The fonts in which a character is looked for, in this order."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return (_OWN, *(name for name in _EAST_ASIAN if name in installed))


def undrawable(text: str) -> str:
    """The characters of ``text`` that no font has, each once."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    fonts = [get_font(findfont(FontProperties(family=name))) for name in families()]
    return "".join(c for c in dict.fromkeys(text) if not any(font.get_char_index(ord(c)) for font in fonts))


@contextmanager
def no_glyph_warnings() -> Iterator[None]:
    """Within this block matplotlib draws a box for a missing character and does not warn of it at each drawing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
