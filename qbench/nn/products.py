"""The products of a layer, forward and backward, in one of the two arithmetics."""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from qbench.kernels.encoding import extremes
from qbench.nn import integer, simulated
from qbench.nn.eligible import padding_of
from qbench.nn.error_line import ErrorLine
from qbench.nn.geometry import Geometry
from qbench.quant.formats import Affine
from qbench.quant.qtensor import QTensor
from qbench.quant.ranges import Range
from qbench.recipe import Arithmetic

Value = Tensor | QTensor
WeightError = Value | ErrorLine
"""The operand of a weight gradient."""


class Functions(Protocol):
    """The products of an arithmetic; see :mod:`qbench.nn.simulated` for shapes."""

    def conv(self, x: Value, weight: Value, geometry: Geometry, /) -> Tensor: ...
    def conv_with_extremes(self, x: QTensor, weight: QTensor, geometry: Geometry, /) -> tuple[Tensor, Tensor]: ...
    def conv_encoded(self, x: Value, weight: Value, geometry: Geometry, spec: Affine, limits: Range, /) -> QTensor: ...
    def conv_input_grad(self, error: Value, weight: Value, shape: torch.Size, geometry: Geometry, /) -> Tensor: ...
    def add_conv_input_grad_(self, total: Tensor, error: Value, weight: Value, geometry: Geometry, /) -> None: ...
    def conv_weight_grad(self, x: Value, error: WeightError, shape: torch.Size, geometry: Geometry, /) -> Tensor: ...
    def linear(self, x: Value, weight: Value, /) -> Tensor: ...
    def linear_input_grad(self, error: Value, weight: Value, /) -> Tensor: ...
    def linear_weight_grad(self, x: Value, error: WeightError, /) -> Tensor: ...


FUNCTIONS: dict[Arithmetic, Functions] = {"simulated": simulated, "integer": integer}
"""The two arithmetics: the same functions, the same results, floats or integers multiplied."""


class Product(Protocol):
    """The three products of a layer: forward, input gradient, weight gradient."""

    def forward(self, x: Value, weight: Value) -> Tensor: ...
    def forward_with_extremes(self, x: QTensor, weight: QTensor) -> tuple[Tensor, Tensor]: ...
    def forward_encoded(self, x: Value, weight: Value, spec: Affine, limits: Range) -> QTensor: ...
    def input_grad(self, error: Value, weight: Value, shape: torch.Size) -> Tensor: ...
    def add_input_grad_(self, total: Tensor, error: Value, weight: Value) -> None: ...
    def weight_grad(self, x: Value, error: WeightError, shape: torch.Size) -> Tensor: ...
    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor: ...


class ConvProduct:
    """Products of a 2-D convolution; see :mod:`qbench.nn.simulated` for shapes."""

    def __init__(self, geometry: Geometry, arithmetic: Arithmetic) -> None:
        self.geometry = geometry
        self.arithmetic = arithmetic

    @property
    def functions(self) -> Functions:
        """Looked up, because a module cannot be copied or saved."""
        return FUNCTIONS[self.arithmetic]

    def forward(self, x: Value, weight: Value) -> Tensor:
        return self.functions.conv(x, weight, self.geometry)

    def forward_with_extremes(self, x: QTensor, weight: QTensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, with the smallest and largest result, float32 [2]."""
        return self.functions.conv_with_extremes(x, weight, self.geometry)

    def forward_encoded(self, x: Value, weight: Value, spec: Affine, limits: Range) -> QTensor:
        """The result as codes of a range known beforehand, rounded to nearest."""
        return self.functions.conv_encoded(x, weight, self.geometry, spec, limits)

    def input_grad(self, error: Value, weight: Value, shape: torch.Size) -> Tensor:
        return self.functions.conv_input_grad(error, weight, shape, self.geometry)

    def add_input_grad_(self, total: Tensor, error: Value, weight: Value) -> None:
        """``total``, dense in channels-last memory, plus the gradient of its shape."""
        self.functions.add_conv_input_grad_(total, error, weight, self.geometry)

    def weight_grad(self, x: Value, error: WeightError, shape: torch.Size) -> Tensor:
        return self.functions.conv_weight_grad(x, error, shape, self.geometry)

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        g = self.geometry
        return functional.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups)


class LinearProduct:
    """Products of a linear layer."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic

    @property
    def functions(self) -> Functions:
        """Looked up, because a module cannot be copied or saved."""
        return FUNCTIONS[self.arithmetic]

    def forward(self, x: Value, weight: Value) -> Tensor:
        return self.functions.linear(x, weight)

    def forward_with_extremes(self, x: QTensor, weight: QTensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, with the smallest and largest result, float32 [2]."""
        y = self.forward(x, weight)
        return y, extremes(y)

    def forward_encoded(self, x: Value, weight: Value, spec: Affine, limits: Range) -> QTensor:
        """The result as codes of a range known beforehand, rounded to nearest."""
        return simulated.encoded(self.forward(x, weight), spec, limits)

    def input_grad(self, error: Value, weight: Value, shape: torch.Size) -> Tensor:
        return self.functions.linear_input_grad(error, weight)

    def add_input_grad_(self, total: Tensor, error: Value, weight: Value) -> None:
        """``total`` plus the gradient of its shape."""
        total.add_(self.functions.linear_input_grad(error, weight))

    def weight_grad(self, x: Value, error: WeightError, shape: torch.Size) -> Tensor:
        return self.functions.linear_weight_grad(x, error)

    def plain(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)


def product_of(layer: nn.Conv2d | nn.Linear, arithmetic: Arithmetic) -> Product:
    """The products of a float layer. Only zero padding is supported: integer kernels pad with a code."""
    if isinstance(layer, nn.Linear):
        return LinearProduct(arithmetic)
    zeros = padding_of(layer)
    assert zeros is not None, "convert refuses other padding"
    stride, padding, dilation = (cast(tuple[int, int], tuple(v)) for v in (layer.stride, zeros, layer.dilation))
    return ConvProduct(Geometry(stride, padding, dilation, layer.groups), arithmetic)
