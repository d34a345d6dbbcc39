"""Batches in an order, and with an augmentation, that depend on nothing but (seed, epoch, batch).

Every method of a suite therefore sees the same batches, in whatever process and on whatever device it runs.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qbench.data.streams import Streams
from qbench.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from qbench.data.dataset import Split


@dataclass(frozen=True, eq=False)
class Batch:
    """images float32 [N, C, H, W], labels int64 [N], and which items of the split they are: indices int64 [N].

    draw_sha: SHA-256 (32 bytes) of the indices and of the augmentation's random key; a run's ``order_sha`` is the
    hash over these.
    """

    images: Tensor
    labels: Tensor
    indices: NDArray[np.int64]
    draw_sha: bytes


class BatchLoader:
    """Iterates over splits. It holds no state: two iterations with equal arguments are equal."""

    @staticmethod
    def iterate(
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool = False,
        augment: bool = False,
        drop_last: bool = False,
        max_batches: int | None = None,
    ) -> Iterator[Batch]:
        """The batches of one epoch; ``max_batches`` cuts it short. seed: >= 0, epoch: from 0.

        Where a split decodes files, the next batch is made in a background thread. Raises :class:`DataError` when
        ``drop_last`` would leave no batch at all.
        """
        count = num_batches(len(split), batch_size, drop_last=drop_last, max_batches=max_batches)
        order = item_order(len(split), seed=seed, epoch=epoch, shuffle=shuffle)
        streams = Streams()

        def make(number: int) -> Batch:
            indices = order[number * batch_size : (number + 1) * batch_size]
            key = augmentation_key(seed, epoch, number) if augment else None
            draws = None if key is None else streams.at(key)
            images, labels = split.batch(indices, draws)
            return Batch(images, labels, indices, _draw_sha(indices, key))

        return _ahead(make, count) if split.decodes else (make(number) for number in range(count))


def num_batches(num_items: int, batch_size: int, *, drop_last: bool = False, max_batches: int | None = None) -> int:
    """How many batches an epoch has. Raises :class:`DataError` when ``drop_last`` leaves none."""
    count = num_items // batch_size if drop_last else -(-num_items // batch_size)
    if drop_last and count == 0:
        raise DataError(
            f"a batch of {batch_size} is larger than the split, which has {num_items} items; "
            f"set batch_size to at most {num_items}"
        )
    return count if max_batches is None else min(count, max_batches)


def item_order(num_items: int, *, seed: int, epoch: int, shuffle: bool) -> NDArray[np.int64]:
    """Item indices int64 [num_items] in the order of the epoch: a permutation keyed by (seed, 2 * epoch)."""
    if not shuffle:
        return np.arange(num_items, dtype=np.int64)
    return Streams().at((seed, 2 * epoch)).permutation(num_items).astype(np.int64, copy=False)


def augmentation_key(seed: int, epoch: int, batch: int) -> NDArray[np.uint64]:
    """The Philox key of one batch's augmentation; odd, so that it never meets the key of an order."""
    return np.array([seed, (epoch << 32) + 2 * batch + 1], np.uint64)


def _draw_sha(indices: NDArray[np.int64], key: NDArray[np.uint64] | None) -> bytes:
    # Little-endian on every machine, so that fingerprints travel.
    drawn = b"" if key is None else key.astype("<u8").tobytes()
    return hashlib.sha256(indices.astype("<i8").tobytes() + drawn).digest()


def _ahead(make: Callable[[int], Batch], count: int) -> Iterator[Batch]:
    with ThreadPoolExecutor(1, thread_name_prefix="qbench-prefetch") as thread:
        pending = thread.submit(make, 0) if count else None
        for number in range(count):
            assert pending is not None
            batch = pending.result()
            pending = thread.submit(make, number + 1) if number + 1 < count else None
            yield batch
