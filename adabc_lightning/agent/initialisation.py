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
    """Orthogonal, gain √2 in all layers, the last one included; zero bias (IQL's code, jaxrl)."""
    for layer in _linear(net):
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
        nn.init.zeros_(layer.bias)


def uniform(net: nn.Sequential) -> None:
    """PyTorch's own, which every layer has: uniform, ±1/√fan_in, weights and biases."""


def uniform_end(limit: float, hidden_bias: float | None = None) -> Initialisation:
    """Uniform, ±1/√fan_in, in the last layer ±``limit``, weights and biases.

    Args:
        limit: 1e-3 for actors and 3e-3 for critics in SPOT's, CORL's and ReBRAC's code.
        hidden_bias: biases of the hidden layers; None for as their weights.
    """

    def initialise(net: nn.Sequential) -> None:
        *hidden, last = _linear(net)
        for parameter in last.parameters():
            nn.init.uniform_(parameter, -limit, limit)
        if hidden_bias is not None:
            for layer in hidden:
                nn.init.constant_(layer.bias, hidden_bias)

    return initialise


def xavier(net: nn.Sequential) -> None:
    """Uniform, ±√(6 / (fan_in + fan_out)) in all layers; zero bias (RLPD's code)."""
    for layer in _linear(net):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def orthogonal_small_hidden(net: nn.Sequential) -> None:
    """Orthogonal, gain √2, in the last hidden layer 0.01; zero bias (WSRL's code).

    Where that layer is normalised, the small gain is undone.
    """
    layers = _linear(net)
    for layer in layers:
        small = layer in layers[-2:-1]
        nn.init.orthogonal_(layer.weight, 1e-2 if small else math.sqrt(2))
        nn.init.zeros_(layer.bias)


def orthogonal_small_end(net: nn.Sequential) -> None:
    """Orthogonal, gain √2, in the last layer 0.01; zero bias (CQL's and Cal-QL's code)."""
    layers = _linear(net)
    for layer in layers:
        nn.init.orthogonal_(layer.weight, 1e-2 if layer is layers[-1] else math.sqrt(2))
        nn.init.zeros_(layer.bias)
