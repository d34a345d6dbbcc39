"""The bfloat16 baseline: PyTorch's automatic mixed precision."""

from __future__ import annotations

from typing import Literal

from qbench import Recipe, method


@method("bf16", null={"dtype": "float32"})
def bf16(*, dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16") -> Recipe:
    """Mixed precision with torch.autocast: convolutions and products in bfloat16, weights in float32.

    dtype: of convolutions and products.
    """
    return Recipe(autocast=None if dtype == "float32" else dtype)
