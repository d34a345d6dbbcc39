"""Methods that each break one promise of the contract; the function's name says which."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from qbench import Recipe, method
from qbench.nn import integer
from qbench.nn.layers import QuantizedLayer
from qbench.nn.products import ConvProduct
from qbench.quant.formats import Symmetric

_calls = count(1)


class _Head(nn.Module):
    """What a model computes, and ``change`` of it."""

    def __init__(self, model: nn.Module, change: Any) -> None:
        super().__init__()
        self.model, self.change = model, change
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self, x, self.model(x))  # type: ignore[no-any-return]


def _recipe(change: Any) -> Recipe:
    return Recipe(transform=lambda model: _Head(model, change))


@method("undocumented", null={})
def undocumented(*, bits: int = 8) -> Recipe:
    """An option without a word on it."""
    return Recipe()


@method("moody", null={})
def moody() -> Recipe:
    """Another recipe at every call."""
    return Recipe(draws=next(_calls))


@method("preset", null={}, presets={"paper": {"bit": 4}})
def preset(*, bits: int = 8) -> Recipe:
    """Its preset names no option of its own."""
    return Recipe()


@method("forgetful", null={})
def forgetful() -> Recipe:
    """Changes the model and does not return it."""
    return Recipe(transform=_forgetting)


def _forgetting(model: nn.Module) -> nn.Module:
    model.train()
    return None  # type: ignore[return-value]


@method("credulous", null={})
def credulous(*, anything: Any = 1) -> Recipe:
    """Takes anything."""
    return Recipe()


@method("nullless")
def nullless() -> Recipe:
    """Knows no options under which it changes nothing."""
    return Recipe()


@method("notnull", null={})
def notnull() -> Recipe:
    """Says that it changes nothing."""
    return Recipe(weight=Symmetric(8))


@method("noisy", null={})
def noisy() -> Recipe:
    """Draws from PyTorch's global generator."""
    return _recipe(lambda head, x, y: y * torch.rand(()))


@method("partial", null={})
def partial() -> Recipe:
    """Depends on the arithmetic."""
    return Recipe(weight=Symmetric(8), transform=lambda model: _Head(model, _scaled_in_integers))


def _scaled_in_integers(head: _Head, x: Tensor, y: Tensor) -> Tensor:
    products = [m.product for m in head.modules() if isinstance(m, QuantizedLayer)]
    return y * (1 + any(isinstance(p, ConvProduct) and p.functions is integer for p in products))


@method("divergent", null={})
def divergent() -> Recipe:
    """Overflows."""
    return _recipe(lambda head, x, y: y * torch.inf)


@method("poisonous", null={})
def poisonous() -> Recipe:
    """Trains on while a buffer is NaN."""
    return _recipe(_poisoning)


def _poisoning(head: _Head, x: Tensor, y: Tensor) -> Tensor:
    head.seen.fill_(torch.nan)
    return y


@method("fickle", null={})
def fickle() -> Recipe:
    """Another result at every call, without a trace in the state."""
    return _recipe(lambda head, x, y: y * next(_calls))


@method("restless", null={})
def restless() -> Recipe:
    """Counts its evaluations."""
    return _recipe(_counting)


def _counting(head: _Head, x: Tensor, y: Tensor) -> Tensor:
    head.seen += 1
    return y


@method("fragile", null={})
def fragile() -> Recipe:
    """Divides by the batch."""
    return _recipe(lambda head, x, y: y / x.abs().sum())


@method("wasteful", null={})
def wasteful() -> Recipe:
    """Declares fewer bits than it uses."""
    return Recipe(weight=_Understated(8))


class _Understated(Symmetric):
    @property
    def bound_bits(self) -> int:
        return 2


@method("secretive", null={})
def secretive() -> Recipe:
    """Turns to something else later, by a count that no object of Python holds."""
    os.environ[_PASSES] = "0"
    return _recipe(_turning)


_PASSES = "SECRETIVE_PASSES"


def _turning(head: _Head, x: Tensor, y: Tensor) -> Tensor:
    passes = int(os.environ[_PASSES]) + 1
    os.environ[_PASSES] = str(passes)
    return y if passes < 5 else y * 0.5
