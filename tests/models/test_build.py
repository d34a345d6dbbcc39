"""Every model of the registry: size, shapes, blocks, initial weights."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from qbench.errors import InputError, UnknownNameError
from qbench.models import build_model, model_names, registry, resolve_model_options
from qbench.nn.blocks import Branch, ConvNormAct, LinearNormAct

# Parameters for 10 classes of 3x32x32 images. A new model is one line here.
PARAMETERS = {
    "convnet": 288_746,
    "mlp": 3072 * 256 + 256 * 256 + 4 * 256 + 256 * 10 + 10,
    "resnet8": 78_042,
    "resnet14": 175_258,
    "resnet20": 272_474,
    "resnet32": 466_906,
    "resnet44": 661_338,
    "resnet56": 855_770,
    "resnet18": 11_689_512 - 990 * 513,
    "resnet34": 21_797_672 - 990 * 513,
    "resnet50": 25_557_032 - 990 * 2049,
}
TORCHVISION = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}
SMALL = [name for name in PARAMETERS if name not in TORCHVISION]


def build(name: str, *, classes: int = 10, channels: int = 3, size: int = 32, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, num_classes=classes, in_channels=channels, image_size=size, options=options)


def blueprint(name: str, **arguments: int) -> nn.Module:
    """The model without memory for its weights: enough to look at its structure, and built in no time."""
    with torch.device("meta"):
        return build(name, **arguments)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_model_is_listed_here() -> None:
    assert model_names() == sorted(PARAMETERS)
    assert all(entry.load().description for entry in registry)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name: str) -> None:
    assert count(blueprint(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameter_count_is_torchvisions_for_imagenet(name: str) -> None:
    assert count(blueprint(name, classes=1000, size=224)) == TORCHVISION[name]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (11, 4)])
def test_images_of_any_size_and_channels_train(name: str, size: int, channels: int) -> None:
    model = build(name, classes=7, channels=channels, size=size)
    logits = model(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 7)
    logits.logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("resnet20", [(16, 32), (16, 32), (32, 16), (64, 8)]),
        ("resnet18", [(64, 16), (64, 8), (128, 4), (256, 2), (512, 1)]),
        ("resnet50", [(64, 16), (256, 8), (512, 4), (1024, 2), (2048, 1)]),
    ],
)
def test_channels_and_image_sizes_of_the_stages(name: str, shapes: list[tuple[int, int]]) -> None:
    model = blueprint(name)
    seen: list[tuple[int, int]] = []
    for module in [model.get_submodule("stem"), *model.get_submodule("stages").children()]:
        module.register_forward_hook(lambda _module, _inputs, output: seen.append((output.shape[1], output.shape[2])))
    model.eval()(torch.zeros(1, 3, 32, 32, device="meta"))
    assert seen == shapes


def test_the_plain_network_has_no_residual_stream_and_halves_the_image_between_stages() -> None:
    model = blueprint("convnet", channels=1)
    blocks = [module for module in model.modules() if isinstance(module, ConvNormAct)]
    assert all(block.activation and not block.to_trunk for block in blocks)
    assert not any(isinstance(module, Branch) for module in model.modules())
    seen: list[tuple[int, int]] = []
    for block in blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append((output.shape[1], output.shape[2])))
    model.eval()(torch.zeros(1, 1, 32, 32, device="meta"))
    assert seen == [(32, 32), (32, 32), (64, 16), (64, 16), (128, 8), (128, 8)]


def test_imagenet_size() -> None:
    model = blueprint("resnet18", classes=1000, size=224).eval()
    last: list[torch.Size] = []
    model.get_submodule("stages").register_forward_hook(lambda _module, _inputs, output: last.append(output.shape))
    assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)
    assert last == [(2, 512, 7, 7)]


@pytest.mark.parametrize("name", PARAMETERS)
def test_equal_seeds_give_equal_weights(name: str) -> None:
    first, second = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(1)
    other = build_model(name, num_classes=10, in_channels=3, image_size=32).state_dict()
    assert not torch.equal(other["classifier.weight"], first["classifier.weight"])


@pytest.mark.parametrize("name", PARAMETERS)
def test_norms_start_as_identity_and_only_the_classifier_has_a_bias(name: str) -> None:
    model = build(name)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.weight == 1).all()) and bool((norm.bias == 0).all()) for norm in norms)
    layers = {key: m for key, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert [key for key, layer in layers.items() if layer.bias is not None] == ["classifier"]


def test_convolutions_start_with_he_normal_over_the_fan_out() -> None:
    convolution = build("resnet18").get_submodule("stages.1.0.conv1.conv")
    assert isinstance(convolution, nn.Conv2d)
    # 64 -> 128 channels, 3x3: std = sqrt(2 / (128 * 9)); 73 728 draws put its estimate within 0.3 % (one sigma).
    assert convolution.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.015)
    # A normal distribution, not a uniform one of equal deviation: that would end at 1.73 deviations.
    assert convolution.weight.abs().max() > 3 * convolution.weight.std()


@pytest.mark.parametrize("name", PARAMETERS)
def test_only_known_layers_are_used(name: str) -> None:
    leaves = {type(m) for m in blueprint(name).modules() if not any(True for _ in m.children())}
    pooling = {nn.AdaptiveAvgPool2d, nn.MaxPool2d}
    assert leaves <= {nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, Branch} | pooling
    owners = {type(m) for m in blueprint(name).modules() if any(isinstance(c, nn.BatchNorm2d) for c in m.children())}
    assert owners <= {ConvNormAct}


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name.startswith("resnet")])
def test_stem_last_convolutions_and_projections_lie_on_the_trunk(name: str) -> None:
    model = blueprint(name)
    last = "conv3" if name == "resnet50" else "conv2"
    for key, block in model.named_modules():
        if isinstance(block, ConvNormAct):
            leaf = key.rpartition(".")[2]
            assert block.to_trunk == (leaf in {"stem", "projection", last}), key
            assert block.activation == (leaf != "projection"), key


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50"])
def test_identity_shortcuts_use_the_trunk_and_all_else_the_branch(name: str) -> None:
    class Cut(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    kinds = set()
    for block in build(name).eval().modules():
        if not hasattr(block, "branch"):
            continue
        block.branch = Cut()
        convolution = block.conv1.conv
        x = torch.randn(2, convolution.in_channels, 8, 8)
        projects = block.projection is not None
        kinds.add(projects)
        # Without bias and with a fresh norm, what passes the branch arrives as zero.
        y = block(x)
        assert torch.equal(y, torch.zeros_like(y) if projects else x.relu())
    assert kinds == {True, False}


def test_width_and_depth_options() -> None:
    wide = build("resnet8", width=32)
    assert wide.get_submodule("classifier").weight.shape == (10, 128)
    plain = build("convnet", width=8, depth=3)
    assert plain.get_submodule("classifier").weight.shape == (10, 32)
    assert sum(isinstance(module, ConvNormAct) for module in plain.modules()) == 9
    deep = build("mlp", width=17, depth=3)
    assert [type(m) for m in deep.get_submodule("hidden")] == [LinearNormAct] * 3  # type: ignore[arg-type]
    assert deep.get_submodule("classifier").weight.shape == (10, 17)


def test_options_are_listed_with_their_defaults() -> None:
    assert [(o.name, o.default) for o in registry.get("mlp").options] == [("width", 256), ("depth", 2)]
    assert resolve_model_options("convnet", {}) == {"width": 32, "depth": 2}
    assert resolve_model_options("resnet20", {}) == {"width": 16}
    assert resolve_model_options("resnet50", {}) == {}


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("resnet9", {}, UnknownNameError, "unknown model 'resnet9', did you mean 'resnet"),
        ("resnet8", {"widht": 8}, UnknownNameError, "model 'resnet8' has no option 'widht', did you mean 'width'?"),
        ("resnet8", {"depth": 9}, UnknownNameError, "model 'resnet8' has no option 'depth'"),
        ("resnet18", {"width": 8}, UnknownNameError, "model 'resnet18' has no option 'width'; known: none"),
        ("resnet8", {"width": 0}, InputError, "model 'resnet8', option 'width': input should be greater than or equal"),
        ("resnet8", {"width": "16"}, InputError, "option 'width': input should be a valid integer, not '16'"),
        ("mlp", {"depth": True}, InputError, "option 'depth': input should be a valid integer, not True"),
    ],
)
def test_bad_names_and_options(name: str, options: dict[str, object], error: type[InputError], message: str) -> None:
    with pytest.raises(error) as caught:
        build(name, **options)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_listing_models_and_data_sets_imports_nothing_heavy() -> None:
    program = (
        "import sys, qbench.data, qbench.models; qbench.models.model_names(); qbench.data.dataset_names();"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'PIL', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
