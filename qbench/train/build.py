"""From the description of a cell to what trains: data, model, recipe applied, optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.data import load_dataset
from qbench.models import build_model
from qbench.nn import convert
from qbench.nn.coded import CodedWeight
from qbench.optim import build_optimizer
from qbench.train.device import find_device, kept_generators
from qbench.train.fingerprint import init_sha
from qbench.train.plan import Plan, make_plan, require_items

if TYPE_CHECKING:
    from qbench.cell import Cell
    from qbench.data import Dataset
    from qbench.nn import Converted
    from qbench.recipe import Recipe


@dataclass(frozen=True)
class BuiltCell:
    """A cell ready to train. init_sha: fingerprint of the float model before conversion.

    memory_format: of the images and the weights, the same for every method: channels-last for models with
    convolutions, because with one thread per worker the float32 baseline was faster with it on the CPU tried.
    """

    cell: Cell
    plan: Plan
    device: torch.device
    dataset: Dataset
    recipe: Recipe
    converted: Converted
    optimizer: torch.optim.Optimizer
    init_sha: str
    memory_format: torch.memory_format

    @property
    def model(self) -> nn.Module:
        """The converted model."""
        return self.converted.model

    def state(self) -> list[Tensor]:
        """Parameters and buffers of the converted model; a weight that lives as codes is there as those."""
        return [*self.converted.parameters(), *self.model.buffers()]

    def to_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A batch where, and laid out as, the model takes it."""
        # Laid out on the device: permuting is cheaper there than in host memory.
        images = images.to(self.device, non_blocking=True).contiguous(memory_format=self.memory_format)
        return images, labels.to(self.device, non_blocking=True)


def build_cell(cell: Cell, *, always_convert: bool = False) -> BuiltCell:
    """Build everything ``cell`` names; for one seed, data and initial weights are the same for every method.

    always_convert: replace the model's blocks even where the recipe quantises nothing.
    Raises the InputError family for what does not exist here: data, device, method, model, option.
    """
    device = find_device(cell.device)
    dataset = load_dataset(
        cell.dataset, root=Path(cell.data_root) if cell.data_root else None, options=cell.dataset_options
    )
    require_items(dataset)
    plan = make_plan(cell.train, len(dataset.train))
    recipe = find_method(cell.method).build(cell.options)
    model = _initial_model(cell, dataset)
    fingerprint = init_sha(model)
    memory_format = _memory_format(model)
    model = model.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    converted = convert(model, recipe, seed=cell.seed, arithmetic=cell.arithmetic, always=always_convert)
    converted.clock.total_steps = plan.total_steps
    converted.clock.generator = cell.train.random_bits
    optimizer = build_optimizer(converted, recipe, cell.train.optimizer)
    return BuiltCell(cell, plan, device, dataset, recipe, converted, optimizer, fingerprint, memory_format)


def exact_twin(built: BuiltCell) -> Converted:
    """A model of the same blocks and norms without any number format, for :func:`copy_weights` to fill.

    No random number of the training's is consumed.
    """
    with kept_generators(built.device):
        model = _initial_model(built.cell, built.dataset)
    model = model.to(device=built.device, memory_format=built.memory_format)  # type: ignore[call-overload]
    recipe = built.recipe.without_formats()
    # Replaced only where the trained model's were, so that a transform meets the same kinds of modules.
    always = built.recipe.converts
    twin = convert(model, recipe, seed=built.cell.seed, arithmetic=built.cell.arithmetic, always=always)
    twin.clock.total_steps = built.converted.clock.total_steps
    return twin


@torch.no_grad()
def copy_weights(source: Converted, target: Converted) -> None:
    """Give ``target`` the parameters of ``source``, weights that live as codes as float32, and the running statistics
    that both have."""
    values = dict(source.model.named_parameters())
    masters = ((name, m.master) for name, m in source.model.named_modules() if isinstance(m, CodedWeight))
    own = {**values, **{f"{name}.weight": q.dequantize() for name, q in masters if q is not None}}
    for name, parameter in target.model.named_parameters():
        parameter.copy_(own[name])
    buffers = dict(source.model.named_buffers())
    for name, buffer in target.model.named_buffers():
        if name in buffers and buffers[name].shape == buffer.shape:
            buffer.copy_(buffers[name])


def _initial_model(cell: Cell, dataset: Dataset) -> nn.Module:
    # Seeded here and not earlier: a method's function may draw random numbers of its own while it builds its recipe.
    torch.manual_seed(cell.seed)
    return build_model(
        cell.model,
        num_classes=dataset.num_classes,
        in_channels=dataset.in_channels,
        image_size=dataset.image_size,
        options=cell.model_options,
    )


def _memory_format(model: nn.Module) -> torch.memory_format:
    has_convolutions = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if has_convolutions else torch.contiguous_format
