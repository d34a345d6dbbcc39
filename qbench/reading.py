"""Reading files whose names come from a user."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def read_regular(path: Path) -> bytes:
    """The content of a regular file.

    Raises OSError, with the file's name, for one that cannot be read, and for a pipe, a socket or a device, which might
    be waited for without end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # as opening a pipe waits for who writes to it
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
