"""The models: identical for every method, built only from the blocks that conversion recognises.

Listing them imports no torch; building one imports the file of its family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbench.factory import Factory, registry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from qbench.models.torchvision_keys import load_torchvision_state as load_torchvision_state

ModelFactory = Factory["nn.Module"]

_SMALL = "qbench.models.cifar_resnet:cifar_resnet"
_LARGE = "qbench.models.resnet:resnet"

registry = registry_of(
    "model",
    [
        ModelFactory("model", "convnet", "plain 3x3 convolutions without shortcuts", "qbench.models.convnet:convnet"),
        ModelFactory("model", "mlp", "fully connected layers, each with batch norm and ReLU", "qbench.models.mlp:mlp"),
        *(
            ModelFactory("model", f"resnet{depth}", f"{depth}-layer ResNet for small images", _SMALL, {"depth": depth})
            for depth in (8, 14, 20, 32, 44, 56)
        ),
        *(
            ModelFactory("model", f"resnet{depth}", f"torchvision's ResNet-{depth}", _LARGE, {"depth": depth})
            for depth in (18, 34, 50)
        ),
    ],
)


def model_names() -> list[str]:
    """All model names, sorted."""
    return registry.names()


def resolve_model_options(name: str, options: Mapping[str, object]) -> dict[str, object]:
    """All options of the model after checking, defaults filled in. Raises InputError."""
    return registry.get(name).resolve(options)


def build_model(
    name: str, *, num_classes: int, in_channels: int, image_size: int, options: Mapping[str, object] | None = None
) -> nn.Module:
    """The float model ``name`` for images [N, in_channels, image_size, image_size], giving logits [N, num_classes].

    Weights are drawn from torch's global generator: seed it first and the same weights come out.
    Raises UnknownNameError for an unknown name or option, InputError for an option out of its range.
    """
    factory = registry.get(name)
    return factory.build(options or {}, num_classes=num_classes, in_channels=in_channels, image_size=image_size)


def __getattr__(name: str) -> object:
    if name == "load_torchvision_state":
        from qbench.models.torchvision_keys import load_torchvision_state

        return load_torchvision_state
    raise AttributeError(f"module 'qbench.models' has no attribute '{name}'")
