"""Splits held in memory: uint8 images, normalised and shifted batch by batch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from qbench.data.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ArraySplit:
    """Items as arrays: images uint8 [N, C, H, W] (a memory map will do), labels int64 [N].

    A pixel p of channel c becomes (p - mean[c]) / std[c]. Augmentation moves every image by up to ``shift`` pixels
    in both directions, what enters is 0 (black): padding by ``shift`` and a random crop.
    """

    decodes = False

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        shift: int,
    ) -> None:
        assert images.ndim == 4
        assert images.shape[:2] == (len(labels), len(mean))
        self._images = images
        self._labels = labels
        self._mean = np.array(mean, np.float32)[:, None, None]
        self._scale = (1 / np.array(std)).astype(np.float32)[:, None, None]
        self._shift = shift

    def __len__(self) -> int:
        return len(self._labels)

    def batch(
        self, indices: NDArray[np.int64], augment: np.random.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 [N, C, H, W] and labels int64 [N] of the items at ``indices``; see :class:`Split`."""
        if augment is None:
            images = self._images[indices]
        else:
            row, column = augment.integers(0, 2 * self._shift + 1, (2, len(indices)))
            images = self._crops[indices, :, row, column]
        normalised = images.astype(np.float32)
        normalised -= self._mean
        normalised *= self._scale
        return torch.from_numpy(normalised), torch.from_numpy(self._labels[indices])

    @cached_property
    def _crops(self) -> NDArray[np.uint8]:
        """Every crop of every padded image, [N, C, rows, columns, H, W] with the position third and fourth: a view.

        The padded copy is kept because padding batch by batch took most of an augmented batch's time.
        """
        return crops(self._images, self._shift)

    def content_sha(self) -> str:
        """Fingerprint of pixels and labels."""
        return self._content_sha

    @cached_property
    def _content_sha(self) -> str:
        return fingerprint(self._images, self._labels)


def crops(images: NDArray[np.uint8], pad: int) -> NDArray[np.uint8]:
    """All crops of ``images`` [N, C, H, W] padded with ``pad`` zeros on all sides, as a view of one padded copy.

    Returns [N, C, 2 * pad + 1, 2 * pad + 1, H, W]; crop (pad, pad) is the image itself.
    """
    number, channels, height, width = images.shape
    padded = np.zeros((number, channels, height + 2 * pad, width + 2 * pad), images.dtype)
    padded[:, :, pad : pad + height, pad : pad + width] = images
    return np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
