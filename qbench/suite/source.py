"""Where suites come from: the built-in ones by bare name, any other by its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from qbench.errors import InputError, SuiteError, UnknownNameError
from qbench.reading import read_regular
from qbench.registry import nearest

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Source:
    """The text of a suite. shown: its name in messages. folder: what paths inside it are relative to."""

    text: str
    shown: str
    folder: Path


def suite_names() -> list[str]:
    """The names of the built-in suites, sorted."""
    files = resources.files("qbench.suites").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def find_source(name_or_path: str) -> Source:
    """The built-in suite of this name, or the file at this path. Raises :class:`SuiteError` or UnknownNameError."""
    if name_or_path in suite_names():
        file = resources.files("qbench.suites") / f"{name_or_path}.yaml"
        return Source(file.read_text(encoding="utf-8"), f"{name_or_path}.yaml", Path())
    path = Path(name_or_path).expanduser()
    is_bare = path.suffix not in _SUFFIXES and len(path.parts) <= 1
    if not name_or_path or (is_bare and not path.exists()):  # '' would be the working directory
        hint = nearest(name_or_path, suite_names())
        raise UnknownNameError(f"unknown suite '{name_or_path}'{hint} (a suite file of your own ends in .yaml)")
    return Source(_read(path), shorten(path), path.parent)


def _read(path: Path) -> str:
    try:
        return read_regular(path).decode()
    except FileNotFoundError:
        raise SuiteError(f"suite file {path} does not exist; built-in suites: {', '.join(suite_names())}") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"suite file {path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SuiteError(
            f"suite file {path} cannot be read: {error.strerror}; name a YAML file that can be read"
        ) from None


def shorten(path: Path) -> str:
    """The path from the working directory where it lies inside, else the absolute one.

    Raises InputError for one that is no text: records, which name it, could not be written.
    """
    absolute = Path(os.path.abspath(path))
    shown = str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)
    try:
        shown.encode()
    except UnicodeEncodeError:
        raise InputError(f"{shown}: this name is not UTF-8 text, which results could hold; rename it") from None
    return shown
