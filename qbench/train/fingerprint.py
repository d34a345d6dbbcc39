"""What must be the same for every method of one seed, as short hashes: initial weights, data order, evaluation set."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from qbench.data import Split

HEX_DIGITS = 16


def init_sha(model: nn.Module) -> str:
    """SHA-256 over the names, in sorted order, and the bytes of all parameters and buffers of ``model``."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0")
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()[:HEX_DIGITS]


def eval_sha(validation: Split, test: Split, max_items: int | None) -> str:
    """SHA-256 over what the validation and test items are, and how many of the first ones are used."""
    text = f"validation {validation.content_sha()} test {test.content_sha()} first {max_items}"
    return hashlib.sha256(text.encode()).hexdigest()[:HEX_DIGITS]


class OrderHash:
    """A running hash over the batches consumed: item indices and augmentation draws, as the loader states them."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, draw_sha: bytes) -> None:
        """Add the hash of one batch."""
        self._digest.update(draw_sha)

    def hexdigest(self) -> str:
        """The hash of everything so far."""
        return self._digest.hexdigest()[:HEX_DIGITS]


def _bytes_of(tensor: Tensor) -> bytes:
    # Seen as bytes, because NumPy has no bfloat16.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
