"""torchvision's checkpoints load and mean the same; torchvision itself is not needed."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qbench.errors import InputError
from qbench.models import build_model, load_torchvision_state
from qbench.models.torchvision_keys import torchvision_key

COUNTS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def shapes(depth: int, classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """torchvision's convolutions and classifier, written down from its documentation of the architecture."""
    yield "conv1.weight", (64, 3, 7, 7)
    channels = 64
    for stage, count in enumerate(COUNTS[depth], start=1):
        width = 32 << stage
        out = width * (4 if depth == 50 else 1)
        for block in range(count):
            at = f"layer{stage}.{block}"
            if depth == 50:
                yield f"{at}.conv1.weight", (width, channels, 1, 1)
                yield f"{at}.conv2.weight", (width, width, 3, 3)
                yield f"{at}.conv3.weight", (out, width, 1, 1)
            else:
                yield f"{at}.conv1.weight", (width, channels, 3, 3)
                yield f"{at}.conv2.weight", (width, width, 3, 3)
            if block == 0 and channels != out:
                yield f"{at}.downsample.0.weight", (out, channels, 1, 1)
            channels = out
    yield "fc.weight", (classes, channels)
    yield "fc.bias", (classes,)


def norm_of(convolution: str) -> str:
    """The name of the norm behind a convolution: bn1 behind conv1, downsample.1 behind downsample.0."""
    stem = convolution.removesuffix(".weight")
    if stem.endswith("downsample.0"):
        return stem[:-1] + "1"
    return stem[: -len("conv1")] + "bn" + stem[-1]


def checkpoint(depth: int, classes: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(depth)
    state: dict[str, Tensor] = {}
    for key, shape in shapes(depth, classes):
        fan_in = max(1, torch.Size(shape[1:]).numel())
        state[key] = torch.randn(shape, generator=generator) / fan_in**0.5
        if not key.startswith("fc"):
            norm = norm_of(key)
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                state[f"{norm}.{leaf}"] = torch.rand(shape[0], generator=generator) + 0.5
            state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return state


def reference(state: dict[str, Tensor], depth: int, x: Tensor) -> Tensor:
    """torchvision's forward pass in evaluation mode."""

    def conv_norm(key: str, x: Tensor, stride: int) -> Tensor:
        weight, norm = state[f"{key}.weight"], norm_of(f"{key}.weight")
        y = functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        leaves = (state[f"{norm}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(y, *leaves)

    x = functional.max_pool2d(conv_norm("conv1", x, 2).relu(), 3, 2, 1)
    for stage, count in enumerate(COUNTS[depth], start=1):
        for block in range(count):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            trunk = conv_norm(f"{at}.downsample.0", x, stride) if f"{at}.downsample.0.weight" in state else x
            if depth == 50:
                y = conv_norm(f"{at}.conv1", x, 1).relu()
                y = conv_norm(f"{at}.conv2", y, stride).relu()
                y = conv_norm(f"{at}.conv3", y, 1)
            else:
                y = conv_norm(f"{at}.conv2", conv_norm(f"{at}.conv1", x, stride).relu(), 1)
            x = (y + trunk).relu()
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("depth", COUNTS)
def test_a_checkpoint_loads_and_computes_what_torchvision_computes(depth: int) -> None:
    state = checkpoint(depth)
    model = build_model(f"resnet{depth}", num_classes=5, in_channels=3, image_size=64).eval()
    load_torchvision_state(model, state)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = model(x), reference(state, depth, x)
    # The same float32 operations but for the order of a few sums.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())
    assert int(model.get_buffer("stem.norm.num_batches_tracked")) == 7


@pytest.mark.parametrize("depth", COUNTS)
def test_the_key_map_is_one_to_one(depth: int) -> None:
    model = build_model(f"resnet{depth}", num_classes=5, in_channels=3, image_size=64)
    state = checkpoint(depth)
    renamed = {torchvision_key(key): tensor for key, tensor in model.state_dict().items()}
    assert len(renamed) == len(model.state_dict())
    assert {key: tensor.shape for key, tensor in renamed.items()} == {key: t.shape for key, t in state.items()}
    load_torchvision_state(model, renamed)


def test_old_checkpoints_without_batch_counts_load() -> None:
    model = build_model("resnet18", num_classes=5, in_channels=3, image_size=64)
    state = {key: t for key, t in checkpoint(18).items() if not key.endswith("num_batches_tracked")}
    load_torchvision_state(model, state)
    assert torch.equal(model.state_dict()["stages.3.1.conv2.norm.bias"], state["layer4.1.bn2.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer2.0.downsample.0.weight"), "lacks 'layer2.0.downsample.0.weight':"),
        (lambda state: [state.pop(k) for k in ("fc.bias", "fc.weight")], "lacks 'fc.bias' and 1 more:"),
        (lambda state: state.update(extra=torch.zeros(1)), "has the unexpected 'extra':"),
        (lambda state: state.update({"fc.bias": torch.zeros(6)}), "fc.bias has shape [6], the model needs [5]"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(change: object, message: str) -> None:
    state = checkpoint(18)
    change(state)  # type: ignore[operator]
    model = build_model("resnet18", num_classes=5, in_channels=3, image_size=64)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_torchvision_state(model, state)
    assert message in str(caught.value)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_only_the_large_resnets_take_checkpoints() -> None:
    model = build_model("resnet20", num_classes=5, in_channels=3, image_size=32)
    with pytest.raises(InputError, match="into resnet18, resnet34 and resnet50, not CifarResNet"):
        load_torchvision_state(model, {})
