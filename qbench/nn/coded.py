"""Weights that live as integer codes: no float copy of them exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from qbench.kernels.checks import dense
from qbench.kernels.packing import MOST_BITS
from qbench.nn.packing import Packing, packing_of
from qbench.quant.formats import Float, Quantizer
from qbench.quant.qtensor import QTensor

BUFFERS = ("weight_codes", "weight_scale", "weight_zero", "weight_table")


class _Deliver(torch.autograd.Function):
    """The handle's node. Autograd's own would copy a channels-last gradient to row-major memory, because the handle's
    elements overlap, and the update would have to copy it back. It has its way where the handle has hooks, which are
    called with what it gets."""

    @staticmethod
    def forward(ctx: Any, handle: Tensor, module: CodedWeight) -> Tensor:
        ctx.module = module
        return handle.view_as(handle)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:  # type: ignore[override]
        if ctx.module.weight._backward_hooks:
            return grads[0], None
        ctx.module.receive(grads[0])
        return None, None


class CodedWeight(nn.Module):
    """A module whose ``weight`` is a float parameter until its codes take over.

    From then on the parameter is a handle: it keeps its name and shape, autograd leaves the gradient in its ``grad``,
    and its data is one NaN shown under that shape. The codes are buffers (``weight_codes`` and what belongs to them),
    so devices and state dicts carry them; the handle is in no state dict.
    """

    weight: nn.Parameter
    weight_codes: Tensor | None
    weight_scale: Tensor | None
    weight_zero: Tensor | None
    weight_table: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        for name in BUFFERS:
            self.register_buffer(name, None)
        self._weight_format: Quantizer | None = None
        self._packing: Packing | None = None
        self.is_frozen = False
        self.is_started = False  # whether the weight is a training's: one that was loaded, or that a rule has started

    @property
    def master(self) -> QTensor | None:
        """The weight as codes; None while the parameter itself is the weight."""
        codes, spec = self.weight_codes, self._weight_format
        if codes is None or spec is None:
            return None
        if self._packing is not None:
            codes = self._packing.unpack(codes, self.weight.shape, getattr(torch, spec.code_dtype))
        return QTensor(codes, self.weight_scale, self.weight_zero, spec, self.weight_table)

    @property
    def in_graph(self) -> Tensor:
        """What stands for the weight in the graph: the parameter, or for codes a node that leaves the gradient in the
        parameter's ``grad`` in the memory layout in which it comes."""
        if self.weight_codes is None:
            return self.weight
        return cast(Tensor, _Deliver.apply(self.weight, self))  # type: ignore[no-untyped-call]

    def receive(self, gradient: Tensor) -> None:
        """Add ``gradient`` (float32 of the weight's shape) to the parameter's ``grad``, which is dense, whatever made
        it: sums over it, as the norm that gradients are clipped by, depend on its memory layout."""
        gradient = dense(gradient)
        self.weight.grad = gradient if self.weight.grad is None else self.weight.grad + gradient

    @torch.no_grad()
    def adopt(self, master: QTensor) -> None:
        """Make ``master`` (of the weight's shape) the weight, for an update rule to change in place."""
        assert master.codes.shape == self.weight.shape, (master.codes.shape, self.weight.shape)
        self.is_frozen, self._packing = False, None
        self._hold(master, dense(master.codes))

    @torch.no_grad()
    def freeze(self, weight: QTensor) -> None:
        """Make ``weight`` the weight, for evaluation only; codes of few bits are kept packed."""
        assert weight.codes.shape == self.weight.shape, (weight.codes.shape, self.weight.shape)
        packing = None if isinstance(weight.format, Float) else packing_of(weight.format, weight.codes)
        self.is_frozen = True
        self._packing = packing if packing is not None and packing.bits <= MOST_BITS else None
        self._hold(weight, weight.codes if self._packing is None else self._packing.pack(weight.codes))

    @torch.no_grad()
    def release(self, weight: Tensor) -> None:
        """Make the parameter the weight, with the values of ``weight`` (float32 of its shape)."""
        if self.weight_codes is None:
            self.weight.copy_(weight)
            return
        for name in BUFFERS:
            setattr(self, name, None)
        self._weight_format, self._packing, self.is_frozen = None, None, False
        self.weight.data = dense(weight).clone()

    def weight_buffers(self) -> list[Tensor]:
        """The codes and what belongs to them; empty while the parameter itself is the weight."""
        return [buffer for name in BUFFERS if (buffer := getattr(self, name)) is not None]

    def _is_of_this_grid(self, state_dict: Any, prefix: str) -> bool:
        """Whether saved codes mean what an update rule takes them for: those of evaluation bring their own scale."""
        codes, scale = (state_dict.get(f"{prefix}{name}") for name in BUFFERS[:2])
        if self.is_frozen or scale is None or self.weight_codes is None or self.weight_scale is None:
            return True
        is_poisoned = bool(scale.isnan().any() or self.weight_scale.isnan().any())
        return codes.dtype == self.weight_codes.dtype and (is_poisoned or bool(scale.cpu() == self.weight_scale.cpu()))

    def _hold(self, weight: QTensor, codes: Tensor) -> None:
        self._weight_format = weight.format
        self.weight_codes = codes
        # A copy, because poison changes it.
        self.weight_scale = None if weight.scale is None else weight.scale.clone()
        self.weight_zero, self.weight_table = weight.zero_point, weight.table
        self._show_nothing()

    def _show_nothing(self) -> None:
        # One of its own: whoever writes to the handle writes to nothing else.
        self.weight.data = self.weight.new_full((), torch.nan).expand(self.weight.shape)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.weight_codes is not None:
            # Copying the handle has filled it. PyTorch's AveragedModel could then write to it, and change no weight.
            self._show_nothing()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight_codes is not None:
            self._show_nothing()  # moving the handle has filled it
            self.weight_codes = dense(self.weight_codes)  # whatever the model's memory format: as the update's state is
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.weight_codes is not None:
            del destination[f"{prefix}weight"]

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        weight, has_codes = f"{prefix}weight", f"{prefix}weight_codes" in state_dict
        if has_codes and self.weight_codes is None:
            error_msgs.append(f"{weight} is codes in this state: make the optimizer before loading it")
            return
        if weight in state_dict and self.weight_codes is not None:
            error_msgs.append(f"{weight} is floats in this state and codes here: load it before making the optimizer")
            return
        if has_codes and not self._is_of_this_grid(state_dict, prefix):
            error_msgs.append(
                f"{weight} is codes of another grid in this state than in the recipe: {self._weight_format}"
            )
            return
        rest = (missing_keys, unexpected_keys, error_msgs)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *rest)
        if self.weight_codes is not None and weight in missing_keys:
            missing_keys.remove(weight)
        self.is_started = self.is_started or weight in state_dict
