"""Arrays in a file: a ZIP archive of NumPy arrays (``numpy.load`` opens it), without compression or pickled objects.

The archive's checksums show damage.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SUFFIX = ".npy"
NPY_VERSION = (1, 0)

UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
"""What :func:`read_arrays` raises for a file that is missing, foreign or damaged."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays by name. The file is there whole or not at all, and the same arrays give the same bytes."""
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(array, order="C"), NPY_VERSION, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(name + SUFFIX), buffer.getvalue())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by name. Raises one of ``UNREADABLE``; never runs code from the file, and allocates no
    more than its size."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("it holds compressed arrays")
        return {member.filename.removesuffix(SUFFIX): _array(archive.read(member)) for member in members}


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != NPY_VERSION:
        raise ValueError("it holds arrays of another version")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if is_fortran or dtype.hasobject:
        raise ValueError("it holds arrays that are no plain numbers")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
