"""Derived files: written whole or not at all, and nothing replaced by surprise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.atomic import remove_orphans, write_atomic
from qbench.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8), making the directory if need be, and clear up after killed writers of it.

    Raises InputError where that cannot be.
    """
    encoded = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, encoded)
        remove_orphans(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}; choose a place you may write to") from None


def refuse_overwrite(path: Path, *, force: bool) -> None:
    """Raise InputError where ``path`` exists and ``force`` was not given, or where it cannot be a file."""
    if path.is_dir():
        raise InputError(f"{path} is a directory; give the name of a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists already; give another name, or --force to replace it")
