"""The numbers that describe a convolution to the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from qbench.kernels.reference.products import output_size


@dataclass(frozen=True)
class Shape:
    """A convolution: images [images, channels, *size] -> [images, filters, *out_size]; both of one group."""

    images: int
    size: tuple[int, int]
    channels: int
    out_size: tuple[int, int]
    filters: int
    groups: int
    taps: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(
        cls,
        input_shape: Sequence[int],
        weight_shape: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Shape:
        """From the shapes of a convolution's input [N, C, H, W] and weight [K, C / groups, R, S]."""
        filters, channels, *taps = weight_shape
        return cls(
            input_shape[0], _pair(input_shape[2:]), channels,
            output_size(input_shape, weight_shape, stride, padding, dilation), filters // groups, groups,
            _pair(taps), _pair(stride), _pair(padding), _pair(dilation),
        )  # fmt: skip

    @classmethod
    def matrix(cls, rows: int, depth: int, columns: int) -> Shape:
        """Of a matrix product [rows, depth] x [depth, columns], as a convolution of 1 x 1 images."""
        one, none = (1, 1), (0, 0)
        return cls(rows, one, depth, one, columns, 1, one, one, none, one)

    @property
    def window(self) -> tuple[int, ...]:
        """Taps, stride, padding and dilation, as the kernels take them."""
        return (*self.taps, *self.stride, *self.padding, *self.dilation)

    @property
    def num_taps(self) -> int:
        """Of a filter."""
        return prod(self.taps)

    @property
    def pixels(self) -> int:
        """Of all the images of the output."""
        return self.images * prod(self.out_size)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second
