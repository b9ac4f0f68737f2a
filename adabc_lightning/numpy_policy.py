"""Policies outside of PyTorch: what collects data and robots act with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StoredPolicy:
    """A policy's weights, float32.

    Args:
        layers: one by one: weight ``[H, I]``, bias ``[H]``.
        std: its own standard deviation ``[A]`` in action limits; None where it has none.
    """

    layers: tuple[np.ndarray, ...]
    std: np.ndarray | None = None

    @classmethod
    def of_actor(cls, state: Mapping[str, Any]) -> "StoredPolicy":
        """From the state of an actor, without its ``log_std``.

        Args:
            state: ``net.LAYER.weight [H, I]`` and ``net.LAYER.bias [H]`` → tensor.
        Raises: KeyError: a bias or a weight is missing.
        """
        numbers = {int(name.split(".")[1]) for name in state if name.startswith("net.")}
        return cls(
            tuple(
                state[f"net.{number}.{kind}"].detach().float().cpu().numpy()
                for number in sorted(numbers)
                for kind in ("weight", "bias")
            )
        )


class NumpyPolicy:
    """π of L observations at once, in NumPy: for so few rows its calls cost half of PyTorch's.

    Args:
        policy: the weights.
        low, high: bounds of the actions ``[A]``.
        lanes: L.
    """

    def __init__(
        self, policy: StoredPolicy, low: Sequence[float], high: Sequence[float], lanes: int = 1
    ) -> None:
        self._layers = [
            (np.ascontiguousarray(matrix.T), bias, np.empty((lanes, len(bias)), np.float32))
            for matrix, bias in zip(policy.layers[::2], policy.layers[1::2], strict=True)
        ]
        low_A, high_A = np.array(low, np.float32), np.array(high, np.float32)
        self._half, self._middle = (high_A - low_A) / 2, (high_A + low_A) / 2

    def __call__(self, observation_LO: np.ndarray) -> np.ndarray:
        """Actions ``[L, A]``, of observations in float32."""
        x = observation_LO
        last = self._layers[-1][2]
        for matrix, bias, out in self._layers:
            np.matmul(x, matrix, out=out)
            out += bias
            x = out if out is last else np.maximum(out, 0, out=out)
        return np.tanh(x, out=x) * self._half + self._middle
