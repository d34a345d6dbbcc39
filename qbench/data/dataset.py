"""What a data set is: three fixed splits of items that come out as batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Split(Protocol):
    """One split: items 0 .. len - 1 in an order that never changes, classes mixed."""

    @property
    def decodes(self) -> bool:
        """Whether a batch costs decoding files, so that making the next one ahead of time pays."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: NDArray[np.int64], augment: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Images float32 [N, C, H, W], normalised, and labels int64 [N], of the items at ``indices`` [N].

        All random draws of the augmentation come from ``augment``, so an equal generator gives an equal batch;
        None: no augmentation.
        """
        ...

    def content_sha(self) -> str:
        """Fingerprint of items and labels in their order: SHA-256, first 16 hex digits."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A classification data set; images are [in_channels, image_size, image_size].

    source: one sentence on where the items come from.
    """

    name: str
    num_classes: int
    in_channels: int
    image_size: int
    train: Split
    validation: Split
    test: Split
    source: str
