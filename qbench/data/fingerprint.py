"""Fingerprints: what must be equal for two runs to be comparable, as 16 hex digits of SHA-256."""

from __future__ import annotations

import hashlib

import numpy as np


def fingerprint(*parts: str | bytes | np.ndarray) -> str:
    """SHA-256 over ``parts``, first 16 hex digits.

    Every part goes in with its kind and size (arrays: dtype and shape), so that no two lists of parts run together.
    """
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            sha.update(f"array {part.dtype.str} {part.shape}\n".encode())
            sha.update(np.ascontiguousarray(part).data)
        else:
            raw = part.encode() if isinstance(part, str) else part
            sha.update(f"{type(part).__name__} {len(raw)}\n".encode())
            sha.update(raw)
    return sha.hexdigest()[:16]
