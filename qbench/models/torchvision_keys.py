"""The key map between torchvision's ResNet checkpoints and ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qbench.errors import InputError
from qbench.models.resnet import ResNet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from torch import Tensor, nn

# Order matters: the first pattern that matches a parameter's module wins.
_RULES = (
    (r"stem\.conv", "conv1"),
    (r"stem\.norm", "bn1"),
    (r"stages\.(?P<stage>\d)\.(?P<block>\d+)\.conv(?P<conv>\d)\.conv", "layer{stage}.{block}.conv{conv}"),
    (r"stages\.(?P<stage>\d)\.(?P<block>\d+)\.conv(?P<conv>\d)\.norm", "layer{stage}.{block}.bn{conv}"),
    (r"stages\.(?P<stage>\d)\.(?P<block>\d+)\.projection\.conv", "layer{stage}.{block}.downsample.0"),
    (r"stages\.(?P<stage>\d)\.(?P<block>\d+)\.projection\.norm", "layer{stage}.{block}.downsample.1"),
    (r"classifier", "fc"),
)


def torchvision_key(key: str) -> str:
    """torchvision's name of our parameter or buffer ``key``: ``stages.0.1.conv2.norm.bias`` is
    ``layer1.1.bn2.bias``."""
    module, _, leaf = key.rpartition(".")
    for pattern, theirs in _RULES:
        match = re.fullmatch(pattern, module)
        if match:
            parts = match.groupdict()
            if "stage" in parts:
                parts["stage"] = str(int(parts["stage"]) + 1)
            return f"{theirs.format(**parts)}.{leaf}"
    raise AssertionError(f"no torchvision name for '{key}'")


def load_torchvision_state(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copy a torchvision ResNet checkpoint into ``model`` (resnet18, resnet34 or resnet50) of the same depth.

    state_dict: torchvision's keys to tensors, as ``torch.load(path, weights_only=True)`` gives them. Checkpoints
    from before torch 0.4.1, which lack ``num_batches_tracked``, load too. Raises :class:`InputError` for another
    model, and when keys or shapes do not fit; the model is then unchanged.
    """
    if not isinstance(model, ResNet):
        raise InputError(
            f"torchvision checkpoints load into resnet18, resnet34 and resnet50, not {type(model).__name__}"
        )
    own = model.state_dict()
    names = {torchvision_key(key): key for key in own}
    _check_keys(names.keys(), state_dict.keys())
    renamed = {names[theirs]: tensor for theirs, tensor in state_dict.items()}
    for ours, tensor in renamed.items():
        if tensor.shape != own[ours].shape:
            raise InputError(
                f"the checkpoint's {torchvision_key(ours)} has shape {list(tensor.shape)}, the model needs "
                f"{list(own[ours].shape)}; build the model with the checkpoint's depth and number of classes"
            )
    model.load_state_dict({**own, **renamed})


def _check_keys(needed: AbstractSet[str], found: AbstractSet[str]) -> None:
    missing = sorted(key for key in needed - found if not key.endswith(".num_batches_tracked"))
    unexpected = sorted(found - needed)
    for problem, keys in (("lacks", missing), ("has the unexpected", unexpected)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise InputError(
                f"the checkpoint {problem} '{keys[0]}'{more}: it is not a torchvision ResNet of this model's depth"
            )
