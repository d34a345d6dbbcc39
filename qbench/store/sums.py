"""SHA256SUMS: the records of a results directory as runs wrote them, in the form that ``sha256sum -c`` reads.

It lists what was there when a run ended. A record that is written again is taken out first, so that no run, however it
ends, leaves a wrong line; one that somebody changed keeps its line, so that every later look tells of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from qbench.atomic import write_atomic
from qbench.reading import read_regular
from qbench.store.files import record_files

NAME = "SHA256SUMS"
_FOLDERS = ("records", "measures", "experiments")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def changed(directory: Path) -> Iterator[Path]:
    """The listed files that are gone, or no longer what a run wrote. Those that cannot be read are told as such."""
    for name, digest in _read(directory).items():
        try:
            is_same = _digest(directory / name) == digest
        except FileNotFoundError:
            is_same = False
        except OSError:
            continue
        if not is_same:
            yield directory / name


def take_out(directory: Path, name: str) -> None:
    """Forget a file that is about to be written. Raises OSError."""
    listed = _read(directory)
    if listed.pop(name, None):
        _write(directory, listed)


def seal(directory: Path) -> None:
    """List every record that is not listed, and no file that is gone. Raises OSError."""
    files = [directory / "suite.json", *(file for folder in _FOLDERS for file in record_files(directory / folder))]
    listed = _read(directory)
    names = (file.relative_to(directory).as_posix() for file in files if file.exists())
    _write(directory, {name: listed.get(name) or _digest(directory / name) for name in names})


def _read(directory: Path) -> dict[str, str]:
    try:
        text = read_regular(directory / NAME).decode(errors="replace")
    except FileNotFoundError:
        return {}
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {line[2]: line[1] for line in found if line}


def _write(directory: Path, digests: Mapping[str, str]) -> None:
    lines = (f"{digest}  {name}\n" for name, digest in digests.items())
    write_atomic(directory / NAME, "".join(lines).encode())


def _digest(file: Path) -> str:
    return hashlib.sha256(read_regular(file)).hexdigest()
