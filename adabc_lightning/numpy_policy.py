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
            state: ``net.LAYER.weight [H, I]`` and ``net.LAYER.bias [H]`` → tensor or array.
        Raises: KeyError: a bias or a weight is missing.
        """
        numbers = {int(name.split(".")[1]) for name in state if name.startswith("net.")}
        return cls(
            tuple(
                _float32(state[f"net.{number}.{kind}"])
                for number in sorted(numbers)
                for kind in ("weight", "bias")
            )
        )


def _float32(numbers: Any) -> np.ndarray:
    tensor = numbers.detach().cpu() if hasattr(numbers, "detach") else numbers
    return np.asarray(tensor, np.float32)


class NumpyPolicy:
    """π without noise (the mean of a Gaussian policy), in NumPy.

    For one observation, or a few, PyTorch's calls cost more than the arithmetic
    (``benchmarks/policy_speed.py``). It keeps nothing between calls, so threads may share it.

    Args:
        policy: the weights.
        low, high: bounds of the actions ``[A]``, action units.
    """

    def __init__(
        self,
        policy: StoredPolicy,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
    ) -> None:
        low_A, high_A = np.array(low, np.float32), np.array(high, np.float32)
        self._half, self._middle = (high_A - low_A) / 2, (high_A + low_A) / 2
        pairs = zip(policy.layers[::2], policy.layers[1::2], strict=True)
        *self._hidden, self._output = [(np.ascontiguousarray(w.T), bias) for w, bias in pairs]

    def __call__(self, observation_BO: np.ndarray) -> np.ndarray:
        """Actions ``[B, A]`` or ``[A]``, of observations in float32 ``[B, O]`` or ``[O]``."""
        x = observation_BO
        for weight, bias in self._hidden:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        weight, bias = self._output
        x = x @ weight
        x += bias
        action_BA: np.ndarray = np.tanh(x, out=x) * self._half + self._middle
        return action_BA
