"""Policies outside of PyTorch: what collects data and robots act with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adabc_lightning.agent.bounds import inward

if TYPE_CHECKING:
    from adabc_lightning.agent.networks import Actor


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
        copy: False to read the arrays of ``policy`` anew in each call; slower for a batch.
    """

    def __init__(
        self,
        policy: StoredPolicy,
        low: Sequence[float] | np.ndarray,
        high: Sequence[float] | np.ndarray,
        *,
        copy: bool = True,
    ) -> None:
        self._low, self._high = low_A, high_A = inward(low, high)
        self._half, self._middle = (high_A - low_A) / 2, (high_A + low_A) / 2
        pairs = zip(policy.layers[::2], policy.layers[1::2], strict=True)
        *self._hidden, self._output = [
            (np.ascontiguousarray(weight.T) if copy else weight.T, bias) for weight, bias in pairs
        ]

    def __call__(self, observation_BO: np.ndarray) -> np.ndarray:
        """Actions within the bounds, ``[B, A]`` or ``[A]``.

        Args:
            observation_BO: ``[B, O]`` or ``[O]``, float32.
        """
        x = observation_BO
        for weight, bias in self._hidden:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        weight, bias = self._output
        x = x @ weight
        x += bias
        action_BA: np.ndarray = np.tanh(x, out=x) * self._half + self._middle
        np.maximum(action_BA, self._low, out=action_BA)  # rounding alone leaves the box
        np.minimum(action_BA, self._high, out=action_BA)
        return action_BA


class LivePolicy:
    """π(s) of an actor that is being trained on the CPU: its own memory, seen by NumPy.

    An update writes the weights in place, so the next call acts with them. Where the tensors
    are others than at the call before (moved, or loaded in the place of the old ones), it looks
    at the new ones.

    Args:
        actor: its parameters are on the CPU when this is called.
    """

    def __init__(self, actor: "Actor") -> None:
        self._actor = actor
        layers = [module for module in actor.net.modules() if "weight" in module._parameters]
        self._places = [
            (layer._parameters, kind) for layer in layers for kind in ("weight", "bias")
        ]
        self._addresses: list[int] = []

    def __reduce__(self) -> Any:
        """A copy looks at the copied actor."""
        return LivePolicy, (self._actor,)

    def __call__(self, observation_O: np.ndarray) -> np.ndarray:
        """Action ``[A]`` in float32, action units, of an observation ``[O]`` of any float type."""
        addresses = [parameters[kind].data_ptr() for parameters, kind in self._places]
        if addresses != self._addresses:
            tensors = [parameters[kind] for parameters, kind in self._places]
            policy = StoredPolicy(tuple(tensor.detach().numpy() for tensor in tensors))
            low, high = self._actor.action_low.numpy(), self._actor.action_high.numpy()
            self._policy = NumpyPolicy(policy, low, high, copy=False)
            self._addresses = addresses
        return self._policy(observation_O.astype(np.float32))
