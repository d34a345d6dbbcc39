"""Weights that live as codes: what is left of the parameter, and what the accounts of memory see."""

from __future__ import annotations

import copy
import io
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from qbench.catalog import find_method
from qbench.cell import Cell
from qbench.nn import Converted, convert
from qbench.nn.blocks import ConvNormAct
from qbench.nn.gradient_sink import placeholder
from qbench.nn.layers import QuantizedLayer
from qbench.optim import build_optimizer
from qbench.quant.formats import Binary, Direct, FixedPoint
from qbench.recipe import OnGrid, QuantizedMomentum, Recipe, Update
from qbench.train.build import BuiltCell, build_cell
from qbench.train.memory import StorageTracker, peak_step_bytes, saved_bytes
from qbench.train.settings import MeasureSettings, OptimizerSettings, ScheduleSettings, TrainSettings
from qbench.train.step import TrainStep

if TYPE_CHECKING:
    from collections.abc import Callable

GRID = FixedPoint(2, 6, "stochastic")
SETTINGS = OptimizerSettings(name="sgd", lr=0.05)
RULES = {"on_grid": OnGrid(GRID), "wageubn": QuantizedMomentum()}


def model_under(update: Update, *, adopt: bool = True) -> Converted:
    torch.manual_seed(0)
    model = nn.Sequential(ConvNormAct(4, 16, 3), ConvNormAct(16, 16, 3), nn.Flatten(), nn.Linear(16 * 25, 3))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weight = FixedPoint(2, 6) if isinstance(update, OnGrid) else Direct(8, 1 - 2.0**-7)
    converted = convert(model, Recipe(weight=weight, update=update))
    if adopt:
        build_optimizer(converted, converted.recipe, SETTINGS)
    return converted


def coded_layers(converted: Converted) -> list[QuantizedLayer]:
    return [layer for _, layer in converted.layers() if isinstance(layer, QuantizedLayer)]


def loss_of(converted: Converted) -> Tensor:
    images = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    outputs: Tensor = converted.model(images.contiguous(memory_format=torch.channels_last))
    return outputs.square().mean()


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_the_parameter_is_a_handle_of_one_nan(update: Update) -> None:
    plain, converted = model_under(update, adopt=False), model_under(update)
    shapes = {name: p.shape for name, p in plain.model.named_parameters()}
    assert {name: p.shape for name, p in converted.model.named_parameters()} == shapes
    for layer in coded_layers(converted):
        assert layer.weight.isnan().all()
        assert layer.weight.untyped_storage().nbytes() == 4
        assert layer.master is not None and layer.master.dequantize().isfinite().all()


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_gradients_arrive_add_up_and_are_cleared(update: Update) -> None:
    """As of a float parameter with the same values."""
    converted, plain = model_under(update), model_under(update, adopt=False)
    for layer, own in zip(coded_layers(converted), coded_layers(plain), strict=True):
        assert layer.master is not None
        own.weight.data.copy_(layer.master.dequantize())
    for _ in range(2):
        loss_of(converted).backward()  # type: ignore[no-untyped-call]
        loss_of(plain).backward()  # type: ignore[no-untyped-call]
        for layer, own in zip(coded_layers(converted), coded_layers(plain), strict=True):
            assert layer.weight.grad is not None and own.weight.grad is not None
            assert layer.weight.grad.dtype == torch.float32
            assert layer.weight.grad.stride() == own.weight.grad.stride(), "as the kernel laid it out, not copied"
            assert torch.equal(layer.weight.grad, own.weight.grad)
    converted.model.zero_grad()
    assert all(layer.weight.grad is None for layer in coded_layers(converted))


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_hooks_of_a_handle_see_and_change_its_gradient(update: Update) -> None:
    plain, hooked = model_under(update), model_under(update)
    loss_of(plain).backward()  # type: ignore[no-untyped-call]
    for layer in coded_layers(hooked):
        layer.weight.register_hook(lambda gradient: gradient * 0.5)
    for times in (1, 2):
        loss_of(hooked).backward()  # type: ignore[no-untyped-call]
        for layer, own in zip(coded_layers(hooked), coded_layers(plain), strict=True):
            assert layer.weight.grad is not None and own.weight.grad is not None
            assert torch.equal(layer.weight.grad, own.weight.grad * 0.5 * times)


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_a_state_dict_carries_the_codes_and_not_the_handle(update: Update) -> None:
    converted, other = model_under(update), model_under(update)
    for layer in coded_layers(other):
        assert layer.weight_codes is not None
        layer.weight_codes.zero_()
    file = io.BytesIO()
    torch.save(converted.model.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert {"0.conv.weight_codes", "0.conv.weight_scale"} <= state.keys()
    assert "0.conv.weight" not in state
    assert other.model.load_state_dict(state).missing_keys == []
    converted.model.eval(), other.model.eval()
    assert torch.equal(loss_of(converted), loss_of(other))


def test_moving_a_model_leaves_handles_empty_and_codes_whole() -> None:
    converted = model_under(RULES["on_grid"])
    before = [layer.weight_codes.clone() for layer in coded_layers(converted) if layer.weight_codes is not None]
    converted.model.to(torch.device("cpu")).double().float()
    for layer, codes in zip(coded_layers(converted), before, strict=True):
        assert layer.weight.untyped_storage().nbytes() == 4
        assert layer.weight_codes is not None and torch.equal(layer.weight_codes, codes)


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_training_goes_on_in_another_memory_format(update: Update) -> None:
    """What the update changes in place, codes and state, keeps one layout."""
    left = []
    for formats in ([None] * 3, [None, torch.contiguous_format, torch.channels_last]):
        converted = model_under(update, adopt=False)
        optimizer = build_optimizer(converted, converted.recipe, OptimizerSettings(name="sgd", lr=0.05, momentum=0.9))
        for converted.clock.step, memory_format in enumerate(formats):
            if memory_format is not None:
                converted.model.to(memory_format=memory_format)  # type: ignore[call-overload]
            optimizer.zero_grad()
            loss_of(converted).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        left.append([layer.weight_codes for layer in coded_layers(converted)])
    for one, other in zip(*left, strict=True):
        assert one is not None and other is not None and torch.equal(one, other)


def test_parameters_are_those_that_hold_values() -> None:
    converted = model_under(RULES["on_grid"])
    names = {id(p): name for name, p in converted.model.named_parameters()}
    norms = {f"{block}.norm.{part}" for block in (0, 1) for part in ("weight", "bias")}
    assert {names[id(p)] for p in converted.parameters()} == {*norms, "3.bias"}


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_model_bytes_do_not_depend_on_where_the_weight_lives(update: Update) -> None:
    assert model_under(update).model_bytes() == model_under(update, adopt=False).model_bytes()


def test_only_codes_are_held_and_nothing_is_kept_twice() -> None:
    """Codes are part of the model, so what autograd keeps of them does not count as kept for backward."""
    converted, plain = model_under(RULES["on_grid"]), model_under(RULES["on_grid"], adopt=False)
    count = sum(layer.weight.numel() for layer in coded_layers(converted))

    def held(model: Converted) -> list[Tensor]:
        return [*model.parameters(), *model.model.buffers()]

    bytes_held = []
    for model in (converted, plain):
        with StorageTracker() as tracker:
            tracker.watch(held(model))
        bytes_held.append(tracker.live_bytes)
    scales = 4 * len(coded_layers(converted))
    assert bytes_held == [bytes_held[1] - 3 * count + scales, bytes_held[1]]
    # The plain model encodes its weights anew in each pass and keeps the codes and their scales.
    kept = [saved_bytes(lambda model=model: loss_of(model), held(model)) for model in (converted, plain)]  # type: ignore[misc]
    assert kept == [kept[1] - count - scales, kept[1]]


def cell(method: str, **options: object) -> Cell:
    return Cell(
        suite="test", method=method, label=method, options=options, model="resnet8", model_options={"width": 8},
        dataset="digits", seed=0, arithmetic="simulated", device="cpu",
        train=TrainSettings(
            epochs=1, batch_size=8, max_steps_per_epoch=4, optimizer=SETTINGS, schedule=ScheduleSettings(name="cosine")
        ),
        measure=MeasureSettings(enabled=False),
    )  # fmt: skip


def step_of(built: BuiltCell) -> Callable[[], None]:
    images, labels = built.to_device(*built.dataset.train.batch(torch.arange(8).numpy(), None))
    step = TrainStep(built)
    return lambda: step.update(step.forward(0, images, labels))


def test_a_built_cell_starts_from_the_float_weights_and_holds_none() -> None:
    sr, fp32 = build_cell(cell("sr", grid="binary")), build_cell(cell("fp32"))
    assert sr.init_sha == fp32.init_sha
    assert all(tensor.isfinite().all() for tensor in sr.state() if tensor.is_floating_point())
    floats = {tensor.numel() for tensor in sr.state() if tensor.is_floating_point()}
    largest = max(layer.weight.numel() for layer in coded_layers(sr.converted))
    assert max(floats) < largest


def test_a_training_step_of_coded_weights_peaks_lower() -> None:
    """Against a float copy with codes of one byte beside it in each pass, four bytes per weight are saved at most."""
    peaks = []
    for built in (build_cell(cell("sr")), build_cell(cell("binaryconnect"))):
        held = [built.state(), list(built.optimizer.state.values())]
        peaks.append(peak_step_bytes(step_of(built), held))
    count = sum(layer.weight.numel() for layer in coded_layers(build_cell(cell("sr")).converted))
    assert peaks[1] - 5 * count <= peaks[0] <= peaks[1] - 3 * count


def test_binary_weights_of_a_frozen_layer_take_one_bit_each() -> None:
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Conv2d(8, 16, 3, bias=False)), Recipe(weight=Binary()))
    (layer,) = coded_layers(converted)
    converted.model.eval()
    weight = layer.encode_weight()
    assert not isinstance(weight, Tensor)
    layer.freeze(weight)
    assert layer.weight_codes is not None
    assert layer.weight_codes.untyped_storage().nbytes() == 8 * 16 * 9 // 8
    assert layer.master is not None and torch.equal(layer.master.codes, weight.codes)
    converted.model.train()
    with pytest.raises(RuntimeError, match="evaluated, not trained"):
        converted.model(torch.randn(1, 8, 4, 4))


def test_released_weights_are_parameters_again() -> None:
    converted = model_under(RULES["on_grid"])
    (layer, *_) = coded_layers(converted)
    assert layer.master is not None
    values = layer.master.dequantize()
    layer.release(values)
    assert torch.equal(layer.weight, values)
    assert layer.master is None and "0.conv.weight" in converted.model.state_dict()


@pytest.mark.parametrize("update", RULES.values(), ids=RULES)
def test_a_copy_has_no_float_copy_either(update: Update) -> None:
    converted, buffer = model_under(update), io.BytesIO()
    torch.save(converted.model, buffer)
    buffer.seek(0)
    for model in (copy.deepcopy(converted.model), torch.load(buffer, weights_only=False)):
        layers = [layer for layer in model.modules() if isinstance(layer, QuantizedLayer)]
        assert layers and all(layer.weight.untyped_storage().nbytes() == 4 for layer in layers)
        assert all(torch.equal(a, b) for a, b in zip(model.buffers(), converted.model.buffers(), strict=True))


def test_averaging_models_of_codes_is_refused() -> None:
    """Handles have no values, and the mean of two codes wraps in their type."""
    converted = model_under(RULES["on_grid"])
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        AveragedModel(converted.model, use_buffers=True).update_parameters(converted.model)


def test_writing_to_a_handle_changes_nothing_else() -> None:
    converted = model_under(RULES["on_grid"])
    first, second, *_ = coded_layers(converted)
    expected = loss_of(converted)
    with torch.no_grad():
        first.weight.zero_()
    assert second.weight.isnan().all() and placeholder(torch.Size([2]), torch.device("cpu")).isnan().all()
    assert torch.equal(loss_of(converted), expected)


@pytest.mark.parametrize("method", ["wageubn", "wage", "fixed_point"])
def test_gradients_have_one_memory_layout_in_both_arithmetics(method: str) -> None:
    """A sum over them, as the norm that gradients are clipped by, goes through memory in its order."""
    recipe, gradients = find_method(method).build({"first_last": "quantized"} if method == "wageubn" else {}), []
    for arithmetic in recipe.arithmetics:
        torch.manual_seed(0)
        model = nn.Sequential(ConvNormAct(4, 16, 3), nn.Flatten(), nn.Linear(16 * 25, 3))
        converted = convert(model, recipe, arithmetic=arithmetic)
        build_optimizer(converted, recipe, SETTINGS)
        loss_of(converted).backward()
        gradients.append([gradient for layer in coded_layers(converted) if (gradient := layer.weight.grad) is not None])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride()
