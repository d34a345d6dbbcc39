"""Random numbers that depend on a key alone: a stream of NumPy's Philox for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Streams:
    """One generator that goes to the beginning of any key's stream.

    Setting the key takes a tenth of the time of a new Philox, which asks the system for entropy that it then ignores.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=np.zeros(2, np.uint64))
        self._generator = np.random.Generator(self._bits)
        self._start: Any = self._bits.state

    def at(self, key: tuple[int, int] | NDArray[np.uint64]) -> np.random.Generator:
        """The generator at the beginning of the stream of a key of two 64-bit words, until the next call."""
        self._start["state"]["key"][:] = key
        self._bits.state = self._start
        return self._generator
