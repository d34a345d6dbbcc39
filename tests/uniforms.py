"""The random numbers behind stochastic rounding: data to a method and to the formula that it is compared with."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from qbench.kernels.random import Key, random_words


def uniforms(shape: int | tuple[int, ...], key: Key) -> NDArray[np.float64]:
    """In [0, 1), as the elements of a tensor of ``shape`` draw them: in the order of channels-last memory."""
    shape = (shape,) if isinstance(shape, int) else shape
    flat = (random_words(math.prod(shape), key, torch.device("cpu")) >> 8).numpy() / 2.0**24
    if len(shape) == 4:
        k, c, r, s = shape
        return flat.reshape(k, r, s, c).transpose(0, 3, 1, 2)
    return flat.reshape(shape)
