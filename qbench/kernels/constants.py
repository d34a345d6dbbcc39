"""Numbers as tensors, made once."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


@cache
@torch.inference_mode(False)  # kept beyond the mode of whoever asks first
def constant(value: float, device: torch.device) -> Tensor:
    """``value`` as a 0-d float32 tensor, filled on the device: a copy would make the host wait. Everybody gets the same
    tensor, which nobody may change."""
    return torch.full((), value, dtype=torch.float32, device=device)
