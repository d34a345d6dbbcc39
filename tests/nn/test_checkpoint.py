"""Inference checkpoints: size, the same logits bit for bit, and files that are none."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qbench.catalog import find_method
from qbench.errors import InputError
from qbench.models import build_model
from qbench.nn import Converted, convert
from qbench.nn.archive import read_arrays, write_arrays
from qbench.nn.blocks import ConvNormAct
from qbench.nn.checkpoint import contents_of, load_checkpoint, save_checkpoint
from qbench.nn.layers import QuantizedLayer
from qbench.nn.packing import Packing, packing_of
from qbench.optim import build_optimizer
from qbench.quant.formats import Affine, Binary, Direct, FixedPoint, Float, Levels, Quantizer, Shift, Symmetric
from qbench.recipe import Recipe
from qbench.train.settings import OptimizerSettings

SETTINGS = OptimizerSettings(name="sgd", lr=0.05)
BYTES_PER_TENSOR = 500
"""What names, shapes and checksums may take of each tensor of a file."""

METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "fp32": ("fp32", {}),
    "binaryconnect": ("binaryconnect", {}),
    "binaryconnect-glorot": ("binaryconnect", {"scale": "glorot", "first_layer": "float"}),
    "binaryconnect-float": ("binaryconnect", {"inference": "float"}),
    "binaryconnect-ensemble": ("binaryconnect", {"rounding": "stochastic", "inference": "ensemble", "draws": 3}),
    "sr-binary": ("sr", {"grid": "binary"}),
    "sr-6-bit": ("sr", {"integer_bits": 2, "fraction_bits": 4}),
    "r-12-bit": ("r", {"integer_bits": 3, "fraction_bits": 9}),
    "banner8": ("banner8", {}),
    "banner8-channel-3-bit": ("banner8", {"bits": 3, "weight_axis": "channel"}),
    "wageubn": ("wageubn", {}),
    "wageubn-all": ("wageubn", {"first_last": "quantized"}),
    "graham": ("graham", {}),
}


def build(method: str, options: dict[str, object], *, seed: int = 0) -> tuple[Converted, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = build_model("resnet8", num_classes=10, in_channels=1, image_size=8, options={"width": 8})
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = find_method(method).build(options)
    converted = convert(model, recipe, seed=3)
    return converted, build_optimizer(converted, recipe, SETTINGS)


def images(count: int = 8, seed: int = 0) -> Tensor:
    batch = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return batch.contiguous(memory_format=torch.channels_last)


def trained(method: str, options: dict[str, object], seed: int = 0) -> Converted:
    """Two steps: running statistics, tracked ranges and weights differ from those of a new model."""
    converted, optimizer = build(method, options, seed=seed)
    for step in range(2):
        converted.clock.step = step
        loss = nn.functional.cross_entropy(converted.model(images(seed=step)), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return converted


@torch.no_grad()
def logits(converted: Converted) -> Tensor:
    was_training = converted.model.training
    converted.model.eval()
    outputs = converted.predict(images(seed=9))
    converted.model.train(was_training)
    return outputs


@pytest.mark.parametrize("case", METHODS)
def test_a_loaded_model_gives_the_same_logits_from_a_file_of_the_stated_size(case: str, tmp_path: Path) -> None:
    converted = trained(*METHODS[case])
    expected = logits(converted)
    assert expected.isfinite().all()
    path = tmp_path / "model.npz"
    save_checkpoint(converted, path)
    assert converted.model.training, "saving leaves the model in the mode it was in"
    assert torch.equal(logits(converted), expected)
    overhead = path.stat().st_size - converted.model_bytes()
    assert 0 < overhead < BYTES_PER_TENSOR * len(read_arrays(path))
    assert not torch.equal(logits(trained(*METHODS[case], seed=1)), expected)
    other, _ = build(*METHODS[case], seed=1)
    load_checkpoint(other, path)
    assert torch.equal(logits(other), expected)
    assert other.model_bytes() == converted.model_bytes()
    again = tmp_path / "again.npz"
    save_checkpoint(other, again)
    assert again.read_bytes() == path.read_bytes()


def test_a_model_can_be_loaded_without_an_optimizer(tmp_path: Path) -> None:
    converted = trained(*METHODS["sr-binary"])
    save_checkpoint(converted, tmp_path / "model.npz")
    method, options = METHODS["sr-binary"]
    torch.manual_seed(1)
    model = build_model("resnet8", num_classes=10, in_channels=1, image_size=8, options={"width": 8})
    other = convert(model, find_method(method).build(options))
    load_checkpoint(other, tmp_path / "model.npz")
    assert torch.equal(logits(other), logits(converted))


def test_binary_weights_take_one_bit_in_the_file_and_in_the_loaded_model(tmp_path: Path) -> None:
    converted = trained(*METHODS["binaryconnect"])
    save_checkpoint(converted, tmp_path / "model.npz")
    load_checkpoint(converted, tmp_path / "model.npz")
    arrays = read_arrays(tmp_path / "model.npz")
    layers = {name: layer for name, layer in converted.layers() if isinstance(layer, QuantizedLayer)}
    assert len(layers) == 10
    for name, layer in layers.items():
        size = -(-layer.weight.numel() // 8)
        assert arrays[f"{name}.weight"].nbytes == size
        assert layer.weight_codes is not None and layer.weight_codes.untyped_storage().nbytes() == size


def test_numpy_opens_a_checkpoint(tmp_path: Path) -> None:
    converted = trained(*METHODS["binaryconnect"])
    save_checkpoint(converted, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        assert header["entries"]["stem.conv.weight"]["format"] == "Binary(scale=1.0, rounding='nearest')"
        bits = np.unpackbits(file["stem.conv.weight"], bitorder="little")
        norm = file["stem.norm.weight"]
    (layer,) = (layer for name, layer in converted.layers() if name == "stem.conv")
    assert isinstance(layer, QuantizedLayer)
    codes = np.where(layer.weight.detach().permute(0, 2, 3, 1).numpy() >= 0, 1, 0).reshape(-1)
    assert (bits[: codes.size] == codes).all()
    assert torch.equal(torch.from_numpy(norm), converted.model.get_parameter("stem.norm.weight"))


FORMATS: list[Quantizer] = [
    Affine(8), Affine(2, granularity="channel"), Affine(12), Symmetric(8), Symmetric(5), Binary(0.3), FixedPoint(2, 2),
    Symmetric(16, granularity="channel"), Float("float16"), Float("bfloat16"), Direct(8, 1.0), Direct(20, 1.0),
    Shift(8), Shift(8, "one"), Levels(3), Levels(4, "log"),
]  # fmt: skip


@pytest.mark.parametrize("spec", FORMATS, ids=str)
def test_every_format_of_weights_comes_back(spec: Quantizer, tmp_path: Path) -> None:
    def make(seed: int) -> Converted:
        torch.manual_seed(seed)
        converted = convert(nn.Sequential(ConvNormAct(3, 6, 3), nn.Flatten(), nn.Linear(96, 5)), Recipe(weight=spec))
        converted.model.eval()
        return converted

    first, second = make(0), make(1)
    x = torch.randn(2, 3, 4, 4)
    save_checkpoint(first, tmp_path / "model.npz")
    load_checkpoint(second, tmp_path / "model.npz")
    assert torch.equal(second.predict(x), first.predict(x))


@given(st.integers(1, 24), st.lists(st.integers(0, 2**24 - 1), max_size=40), st.sampled_from([0, -5]))
def test_packing_is_reversible_and_tight(bits: int, numbers: list[int], lowest: int) -> None:
    packing = Packing(bits, lowest if bits > 4 else 0)
    codes = torch.tensor([n % 2**bits + packing.lowest for n in numbers], dtype=torch.int32)
    assert packing.holds(codes)
    packed = packing.pack(codes)
    assert packed.dtype == torch.uint8 and packed.numel() == -(-len(numbers) * bits // 8)
    assert torch.equal(packing.unpack(packed, codes.shape, torch.int32), codes)


def test_codes_beyond_the_declared_bits_are_stored_in_their_type() -> None:
    codes = torch.tensor([-128, 128], dtype=torch.int16)
    assert packing_of(Direct(8, 1.0), codes) == Packing(16, -(2**15))
    assert packing_of(Direct(8, 1.0), codes[:1]) == Packing(8, -128)


# --- files that are no checkpoint of this model


def refusal(converted: Converted, path: Path) -> str:
    """The one sentence; the model is as it was."""
    before = {name: tensor.clone() for name, tensor in converted.model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_checkpoint(converted, path)
    after = converted.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text.removeprefix(str(path)).strip()


@pytest.fixture(scope="module")
def binary() -> Converted:
    return trained(*METHODS["binaryconnect"])


def test_files_that_are_no_checkpoint(binary: Converted, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    assert refusal(binary, path) == "is not a readable inference checkpoint: No such file or directory"
    assert refusal(binary, tmp_path) == "is not a readable inference checkpoint: Is a directory"
    path.write_bytes(b"")
    assert refusal(binary, path) == "is not a readable inference checkpoint: File is not a zip file"
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    assert refusal(binary, path) == "is not a readable inference checkpoint: File is not a zip file"
    torch.save(binary.model.state_dict(), path)
    assert refusal(binary, path).startswith("is not a readable inference checkpoint: ")
    np.savez(path, weight=np.zeros(3))
    assert refusal(binary, path) == "is not a readable inference checkpoint: it has no header of a checkpoint"
    np.savez_compressed(path, weight=np.zeros(100000))
    assert refusal(binary, path) == "is not a readable inference checkpoint: it holds compressed arrays"
    np.savez(path, header=np.array([{"format": 1}], dtype=object))
    assert refusal(binary, path).startswith("is not a readable inference checkpoint: ")


def test_checkpoints_of_other_models_and_recipes(binary: Converted, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    save_checkpoint(trained(*METHODS["fp32"]), path)
    wanted = "stem.conv.weight is float32 [8, 1, 3, 3] there, Binary(scale=1.0, rounding='nearest') [8, 1, 3, 3] here"
    assert refusal(binary, path) == f"is of another model or recipe: {wanted}"
    save_checkpoint(trained(*METHODS["banner8"]), path)
    assert "stem.conv.weight is Affine(bits=8, " in refusal(binary, path)
    save_checkpoint(convert(nn.Sequential(nn.Linear(2, 2)), Recipe(weight=Binary())), path)
    assert refusal(binary, path) == "is of another model: it has no stem.conv.weight"


def rewritten(path: Path, change: dict[str, np.ndarray | None]) -> None:
    arrays = {**read_arrays(path), **change}
    write_arrays(path, {name: array for name, array in arrays.items() if array is not None})


def test_checkpoints_with_wrong_parts(binary: Converted, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    for change in (
        {"stem.conv.weight": None}, {"stem.conv.weight": np.zeros(3, np.uint8)}, {"stem.conv.weight": np.zeros(5)},
        {"stem.conv.weight/scale": None}, {"stem.norm.weight": np.zeros(4)},
    ):  # fmt: skip
        save_checkpoint(binary, path)
        rewritten(path, change)  # type: ignore[arg-type]
        assert refusal(binary, path).startswith("is not a complete inference checkpoint: ")
    header = json.loads(read_arrays(path)["header"].tobytes())
    for wrong in ({**header, "version": 2}, {**header, "entries": 3}, [1], {"format": "x"}):
        save_checkpoint(binary, path)
        rewritten(path, {"header": np.frombuffer(json.dumps(wrong).encode(), np.uint8)})
        assert refusal(binary, path).startswith("is not a readable inference checkpoint: ")
    save_checkpoint(binary, path)
    header["bits"]["stem.conv.weight"] = 7
    rewritten(path, {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)})
    assert "codes of stem.conv.weight do not take 7 bits" in refusal(binary, path)


def problem_with(converted: Converted, path: Path) -> str:
    """What a file is refused for; empty if it is loaded."""
    try:
        load_checkpoint(converted, path)
    except InputError as error:
        return str(error)
    return ""


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_noticed_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """One wrong byte, or an end that is missing: one sentence, or every value as it was saved."""
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(9, 7)), Recipe(weight=Binary()))
    path = tmp_path / "model.npz"
    save_checkpoint(converted, path)
    content = bytearray(path.read_bytes())
    expected = contents_of(converted)
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path.write_bytes(content)
    problem = problem_with(converted, path)
    if problem:
        assert "\n" not in problem
        return
    loaded = contents_of(converted)
    assert loaded.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, Tensor):
            assert torch.equal(loaded[name], value)  # type: ignore[arg-type]
        else:
            assert torch.equal(loaded[name].codes, value.codes)  # type: ignore[union-attr]


def test_a_failed_write_leaves_the_old_file(binary: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.npz"
    save_checkpoint(binary, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(InputError, match=r"cannot write the checkpoint .*model\.npz: No space left on device$"):
        save_checkpoint(binary, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]


# --- the three readings of binary weights in evaluation


def reading(inference: str, **options: object) -> Recipe:
    return find_method("binaryconnect").build({"inference": inference, **options})


def test_the_readings_an_option_stands_for() -> None:
    assert reading("auto").inference_weight == "quantized"
    assert reading("auto", rounding="stochastic").inference_weight == "float"
    assert reading("binary", rounding="stochastic").inference_weight == "quantized"
    assert reading("float").inference_weight == "float"
    ensemble = reading("ensemble", rounding="stochastic", draws=5)
    assert (ensemble.inference_weight, ensemble.draws) == ("ensemble", 5)


def linear(recipe: Recipe, seed: int = 0) -> tuple[Converted, Tensor]:
    """A linear layer under the recipe, in evaluation mode, and its weight."""
    torch.manual_seed(0)
    converted = convert(nn.Sequential(nn.Linear(40, 30, bias=False)), recipe, seed=seed)
    weight = converted.model.get_parameter("0.weight")
    weight.data.uniform_(-1, 1)
    converted.model.eval()
    return converted, weight.detach()


def test_each_reading_multiplies_by_its_weights() -> None:
    x = torch.randn(6, 40)
    converted, weight = linear(reading("binary"))
    assert torch.allclose(converted.predict(x), x @ torch.where(weight >= 0, 1.0, -1.0).t(), atol=1e-5)
    converted, weight = linear(reading("float"))
    assert torch.allclose(converted.predict(x), x @ weight.t(), atol=1e-5)


def test_an_ensemble_averages_networks_binarised_at_random() -> None:
    """Each draw is a binary network of its own; their mean is what is returned, and tends to the float network: a
    weight w is +1 with probability (1 + w) / 2, so its mean is w and its variance 1 - w^2."""
    x = torch.randn(6, 40)
    draws = 400
    converted, weight = linear(reading("ensemble", draws=draws))
    (layer,) = (layer for _, layer in converted.layers() if isinstance(layer, QuantizedLayer))
    members = []
    for converted.clock.draw in range(draws):
        member = layer.encode_weight()
        assert not isinstance(member, Tensor) and set(member.codes.unique().tolist()) == {-1, 1}
        members.append(member.dequantize())
    stacked = torch.stack(members)
    assert len({member.numpy().tobytes() for member in members}) == draws
    mean = converted.predict(x)
    assert torch.allclose(mean, x @ stacked.mean(0).t(), atol=1e-4)
    deviation = (x.square() @ (1 - weight.square()).t() / draws).sqrt()
    assert bool(((mean - x @ weight.t()).abs() < 5 * deviation).all())


def test_behind_an_ensemble_the_model_alone_is_its_first_network() -> None:
    converted, _ = linear(reading("ensemble", draws=3))
    x = torch.randn(6, 40)
    with torch.no_grad():
        first = converted.model(x)
        assert not torch.equal(converted.predict(x), first)
        assert torch.equal(converted.model(x), first)


def test_an_ensemble_is_the_same_for_one_seed_at_any_step() -> None:
    x = torch.randn(6, 40)
    recipe = reading("ensemble", draws=4)
    converted, _ = linear(recipe)
    first = converted.predict(x)
    converted.clock.step = 17
    torch.rand(5)
    assert torch.equal(converted.predict(x), first)
    assert torch.equal(linear(recipe)[0].predict(x), first)
    assert not torch.equal(linear(recipe, seed=1)[0].predict(x), first)
    fewer = linear(replace(recipe, draws=3))[0].predict(x)
    assert not torch.equal(fewer, first)


def test_training_reads_one_network() -> None:
    x = torch.randn(6, 40)
    (ensemble, _), (plain, _) = linear(reading("ensemble", draws=4)), linear(reading("binary"))
    ensemble.model.train(), plain.model.train()
    assert torch.equal(ensemble.predict(x), plain.predict(x))


@pytest.mark.parametrize("recipe", [{"draws": 0}, {"weight": Shift(8)}], ids=str)
def test_ensembles_that_cannot_be_drawn_are_refused(recipe: dict[str, object]) -> None:
    options: dict[str, object] = {"weight": Binary(), "draws": 2, **recipe}
    with pytest.raises(InputError, match="ensemble"):
        Recipe(inference_weight="ensemble", **options)  # type: ignore[arg-type]
