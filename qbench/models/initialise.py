"""Initial weights, as torchvision's ResNets draw them."""

from __future__ import annotations

from torch import nn


def initialise(model: nn.Module) -> None:
    """Convolutions from the normal distribution of He et al. (2015), std = sqrt(2 / (C_out * k * k)).

    Norms start with gamma 1 and beta 0, linear layers with torch's uniform +-1/sqrt(in_features): both are
    already so when torch makes them.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
