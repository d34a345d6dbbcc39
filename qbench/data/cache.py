"""Where prepared data lies, and how it gets there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_dir() -> Path:
    """The directory of prepared data: ``$XDG_CACHE_HOME/qbench``, or ``~/.cache/qbench``. It may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "qbench"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes ``path`` when the block ends well, and vanishes when it does not."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def writable_dir(path: Path, what: str) -> Path:
    """``path``, created where needed. Raises :class:`DataError` when it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise DataError(f"{what} {path} cannot be written to ({error.strerror}); make it writable") from None
