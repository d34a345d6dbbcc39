"""What README.md shows, for tests that try it."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def code_block(language: str, holding: str) -> str:
    """The README's only block in ``language`` that holds this text."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if holding in block]
    return found
