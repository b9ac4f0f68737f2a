"""How a network's weights start, as the sources of the methods have it."""

import math
from collections.abc import Callable

from torch import nn

Initialisation = Callable[[nn.Sequential], None]
"""Sets the weights of an MLP, a sequence of linear layers and activations, in place."""


def _linear(net: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in net if isinstance(layer, nn.Linear)]


def small_normal(net: nn.Sequential) -> None:
    """Normal, std 1/(2·√fan_in), zero bias (authors' code).

    They call ``trunc_normal_`` with its absolute bounds ±2, many std away: nothing is cut.
    """
    for layer in _linear(net):
        nn.init.normal_(layer.weight, std=1 / (2 * math.sqrt(layer.in_features)))
        nn.init.zeros_(layer.bias)


def orthogonal(net: nn.Sequential) -> None:
    """Orthogonal, gain √2 in all layers, the last one included; zero bias (IQL's code)."""
    for layer in _linear(net):
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
        nn.init.zeros_(layer.bias)


def xavier(net: nn.Sequential) -> None:
    """Uniform, ±√(6 / (fan_in + fan_out)) in all layers; zero bias (RLPD's code)."""
    for layer in _linear(net):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def orthogonal_small_end(net: nn.Sequential) -> None:
    """Orthogonal, gain √2, in the last layer 0.01; zero bias (CQL's and Cal-QL's code)."""
    layers = _linear(net)
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 1e-2 if layer is layers[-1] else math.sqrt(2))
        nn.init.zeros_(layer.bias)
