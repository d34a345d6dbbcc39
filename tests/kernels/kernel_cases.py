"""Every case of the exactness test: the one list that a new file of cases is added to."""

from __future__ import annotations

import kernel_cases_blocks
import kernel_cases_bounded
import kernel_cases_direct
import kernel_cases_encoding
import kernel_cases_line_gradient
import kernel_cases_long
import kernel_cases_passes
import kernel_cases_products
import kernel_cases_range_norm
import kernel_cases_updates

CASES = (
    *kernel_cases_products.CASES,
    *kernel_cases_line_gradient.CASES,
    *kernel_cases_long.CASES,
    *kernel_cases_encoding.CASES,
    *kernel_cases_passes.CASES,
    *kernel_cases_updates.CASES,
    *kernel_cases_range_norm.CASES,
    *kernel_cases_blocks.CASES,
    *kernel_cases_direct.CASES,
    *kernel_cases_bounded.CASES,
)
