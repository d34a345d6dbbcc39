"""Memory laid out beforehand: tensors whose lives are known share one block."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple, TypeVar

Name = TypeVar("Name", bound=Hashable)

LINE = 64
"""Bytes of a cache line, at which every tensor begins."""

GAP = 5 * LINE
"""Bytes behind every tensor: large ones would all begin at the same place of a page, and what is read and written side
by side would meet in the same sets of the caches."""


class Span(NamedTuple):
    """The life of a tensor of ``num_bytes``: the numbers of the first and the last moment when it is needed."""

    start: int
    end: int
    num_bytes: int


def arranged(spans: Mapping[Name, Span]) -> tuple[dict[Name, int], int]:
    """(where each tensor begins, the bytes of the block). Those whose lives meet share no byte.

    The largest come first, each into the lowest gap that is large enough: what is optimal is hard to find, and this is
    close to it for the tensors of a training step.
    """
    offsets: dict[Name, int] = {}
    for name, span in sorted(spans.items(), key=lambda item: -item[1].num_bytes):
        meeting = [(offsets[n], spans[n]) for n in offsets if spans[n].start <= span.end and span.start <= spans[n].end]
        needed, offset = _padded(span.num_bytes), 0
        for begin, other in sorted(meeting):
            if offset + needed <= begin:
                break
            offset = max(offset, begin + _padded(other.num_bytes))
        offsets[name] = offset
    return offsets, max((offsets[name] + _padded(span.num_bytes) for name, span in spans.items()), default=0)


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // LINE) * LINE + GAP
