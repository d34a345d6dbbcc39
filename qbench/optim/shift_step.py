"""WAGE's update (Wu, Li, Chen, Shi 2018, section 3.3.4) on stored weights of few bits, and its initialisation:

    G' = eta * G / Shift(max|G|)          Shift(x) = 2^round(log2 x), eta a power of two
    W <- clip(W - step * SR(G'))          step the grid of the stored weights, SR stochastic rounding

so the gradient's own magnitude is discarded, and the update is an addition of small integers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from qbench.kernels.random import Key
from qbench.kernels.updates import poison_, shift_step_
from qbench.nn import Converted
from qbench.nn.layers import QuantizedLayer
from qbench.nn.norms.layer_scale import weight_limit
from qbench.optim.base import OptimizerConfig, quantized_layers, suite_optimizer
from qbench.optim.coded import CodedOptimizer
from qbench.quant.formats import Direct
from qbench.quant.qtensor import QTensor
from qbench.quant.quantize import code_type, quantize
from qbench.recipe import ShiftStep


def build(converted: Converted, rule: ShiftStep, settings: OptimizerConfig) -> Optimizer:
    """The optimiser of the stored weights, and the suite's own for everything else (the biases).

    Weights that another optimiser has started stay as they are, and so do float ones that were loaded.
    """
    layers = {layer.weight: (name, layer) for name, layer in quantized_layers(converted)}
    for _, layer in layers.values():
        if layer.weight_codes is not None or (rule.master is None and layer.is_started):
            continue
        weight = uniform_by_rank(layer.weight.detach(), start_limit(layer.weight, rule))
        if rule.master is None:
            layer.release(weight)
            layer.is_started = True
        else:
            layer.adopt(initial_codes(weight, rule.master, rule.start))
    if rule.master is None or not layers:
        return suite_optimizer(converted, settings)
    return ShiftStepOptimizer(layers, converted, settings, rule, rule.master)


class ShiftStepOptimizer(CodedOptimizer):
    """See the module. master: the grid of the stored weights."""

    def __init__(
        self,
        layers: dict[nn.Parameter, tuple[str, QuantizedLayer]],
        converted: Converted,
        settings: OptimizerConfig,
        rule: ShiftStep,
        master: Direct,
    ) -> None:
        members = {"params": list(layers), "lr": rule.rate, "base_lr": rule.rate, "weight_decay": 0.0}
        super().__init__(members, layers, converted, settings)
        self._master = master

    def update_codes(self, handle: nn.Parameter, members: dict[str, Any]) -> None:
        """W <- clip(W - step * SR(eta * G / Shift(max|G|)))."""
        layer, gradient = self.layers[handle], handle.grad
        codes, scale = layer.weight_codes, layer.weight_scale
        assert codes is not None and scale is not None and gradient is not None
        eta = shift_rate(members["lr"])
        if eta == 0:
            poison_(scale, gradient)
        else:
            shift_step_(codes, scale, gradient, eta, int(self._master.largest_integer), self.key_of(handle))

    def master_bytes(self) -> int:
        """Bytes of the stored weights, which training keeps beside those of an inference checkpoint."""
        count = sum(handle.numel() for handle in self.layers)
        return math.ceil(count * self._master.storage_bits / 8)


def shift_rate(rate: float) -> float:
    """The power of two nearest to ``rate``, on a logarithmic scale; 0 for 0."""
    return 2.0 ** round(math.log2(rate)) if rate > 0 else 0.0


def start_limit(weight: Tensor, rule: ShiftStep) -> float:
    """L = max(sqrt(numerator / fan-in), smallest): initial weights are uniform in +-L (Eq. 5)."""
    return max(weight_limit(weight, rule.numerator), rule.smallest)


def uniform_by_rank(weight: Tensor, limit: float) -> Tensor:
    """``weight`` mapped onto uniform(-limit, limit) without changing the order of its elements: the one of rank r among
    n (equal ones in order of place) becomes limit * ((2 r + 1) / n - 1)."""
    ranks = weight.flatten().argsort(stable=True).argsort()
    count = max(weight.numel(), 1)
    return (limit * ((2 * ranks.to(torch.float64) + 1) / count - 1)).to(weight.dtype).view(weight.shape)


def initial_codes(weight: Tensor, master: Direct, start: Direct | None) -> QTensor:
    """``weight`` rounded to the grid ``start`` (None: the master's), as codes of the master's format."""
    if start is None:
        return quantize(weight, master, Key(0, 0, 0))
    q = quantize(weight, start, Key(0, 0, 0))
    assert q.scale is not None
    finer = 2 ** (master.bits - start.bits)
    codes = (q.codes.to(torch.int32) * finer).to(code_type(master))
    return QTensor(codes, q.scale / finer, None, master)
