"""Waiting in the main thread for what other threads say, without missing a signal."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

Message = TypeVar("Message")

# Python calls a signal's handler in the main thread, between two of its instructions. A wait in C does not end for a
# signal that came just before it, nor for one that the system gave to another thread; so no wait is longer than this.
_LOOK_UP_S = 0.25


def next_of(inbox: SimpleQueue[Message]) -> Message:
    """The next message, whenever it comes. Raises whatever a signal's handler raises, KeyboardInterrupt for Ctrl-C."""
    while True:
        with suppress(Empty):
            return inbox.get(timeout=_LOOK_UP_S)
