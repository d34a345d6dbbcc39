"""Where prepared data lies."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from qbench.errors import DataError


def cache_dir() -> Path:
    """The directory of prepared data: ``$XDG_CACHE_HOME/qbench``, or ``~/.cache/qbench``. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "qbench"


def writable_dir(path: Path, what: str) -> Path:
    """``path``, created where needed. Raises :class:`DataError` when it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise DataError(f"{what} {path} cannot be written to ({error.strerror}); make it writable") from None
