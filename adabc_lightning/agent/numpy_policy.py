"""Policies outside of PyTorch: what collects data and robots act with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adabc_lightning.agent.bounds import inward

if TYPE_CHECKING:
    from adabc_lightning.agent.networks import Actor

_LOG_STD_MIN, _LOG_STD_MAX = -20.0, 2.0  # agent.gaussian's, which needs PyTorch


@dataclass(frozen=True)
class StoredPolicy:
    """A policy's weights, float32.

    Args:
        layers: one by one: weight ``[H, I]``, bias ``[H]``.
        std: its own standard deviation ``[A]`` in action limits; None where it has none.
        normalization: mean and scale ``[O]`` of :mod:`adabc_lightning.agent.normalization`; None:
            observations go in as they are.
        head: of a squashed Gaussian (:mod:`adabc_lightning.agent.gaussian`) weight ``[A, H]`` and
            bias ``[A]`` of log σ(s), beside the last of ``layers``; None where σ is ``std``.
    """

    layers: tuple[np.ndarray, ...]
    std: np.ndarray | None = None
    head: tuple[np.ndarray, np.ndarray] | None = None
    normalization: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of_actor(cls, state: Mapping[str, Any]) -> "StoredPolicy":
        """From the state of an actor, without its ``log_std``.

        Args:
            state: ``net.LAYER.weight [H, I]`` and ``net.LAYER.bias [H]``, and those of a
                ``log_std_head`` and ``observation_mean`` and ``observation_scale``, if any →
                tensor or array.
        Raises: KeyError: a bias or a weight is missing.
        """
        numbers = {int(name.split(".")[1]) for name in state if name.startswith("net.")}
        head = None
        if "log_std_head.weight" in state:
            head = (
                _float32(state["log_std_head.weight"]),
                _float32(state["log_std_head.bias"]),
            )
        normalization = None
        if "observation_mean" in state:
            normalization = (
                _float32(state["observation_mean"]),
                _float32(state["observation_scale"]),
            )
        return cls(
            tuple(
                _float32(state[f"net.{number}.{kind}"])
                for number in sorted(numbers)
                for kind in ("weight", "bias")
            ),
            head=head,
            normalization=normalization,
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

        def turned(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.ascontiguousarray(weight.T) if copy else weight.T, bias

        *self._hidden, self._output = [turned(*pair) for pair in pairs]
        self._head = None if policy.head is None else turned(*policy.head)
        self._normalization = policy.normalization

    def __call__(self, observation_BO: np.ndarray) -> np.ndarray:
        """Actions within the bounds, ``[B, A]`` or ``[A]``.

        Args:
            observation_BO: ``[B, O]`` or ``[O]``, float32.
        """
        x = self._mean(self._features(observation_BO))
        return self._in_box(np.tanh(x, out=x))

    def sample(self, observation_BO: np.ndarray, noise_BA: np.ndarray) -> np.ndarray:
        """Actions of a squashed Gaussian within the bounds, ``[B, A]`` or ``[A]``.

        Args:
            observation_BO: ``[B, O]`` or ``[O]``, float32.
            noise_BA: standard normal draws ``[B, A]`` or ``[A]``.
        """
        assert self._head is not None
        weight, bias = self._head
        features = self._features(observation_BO)
        log_std_BA = np.minimum(np.maximum(features @ weight + bias, _LOG_STD_MIN), _LOG_STD_MAX)
        return self._in_box(np.tanh(self._mean(features) + np.exp(log_std_BA) * noise_BA))

    def _in_box(self, unit_BA: np.ndarray) -> np.ndarray:
        """Of [−1, 1] to the bounds."""
        action_BA: np.ndarray = unit_BA * self._half + self._middle
        np.maximum(action_BA, self._low, out=action_BA)  # rounding alone leaves the box
        np.minimum(action_BA, self._high, out=action_BA)
        return action_BA

    def _features(self, x: np.ndarray) -> np.ndarray:
        if self._normalization is not None:
            mean_O, scale_O = self._normalization
            x = (x - mean_O) / scale_O
        for weight, bias in self._hidden:
            x = x @ weight
            x += bias
            np.maximum(x, 0, out=x)
        return x

    def _mean(self, x: np.ndarray) -> np.ndarray:
        """Before the tanh."""
        weight, bias = self._output
        x = x @ weight
        x += bias
        return x


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
        self._depth = 2 * len(layers)
        if hasattr(actor, "log_std_head"):
            layers.append(actor.log_std_head)
        self._places: list[tuple[dict[str, Any], str]] = [
            (layer._parameters, kind) for layer in layers for kind in ("weight", "bias")
        ]
        self._addresses: list[int] = []

    def __reduce__(self) -> Any:
        """A copy looks at the copied actor."""
        return LivePolicy, (self._actor,)

    def __call__(self, observation_O: np.ndarray) -> np.ndarray:
        """Action ``[A]`` in float32, action units, of an observation ``[O]`` of any float type."""
        return self._newest()(observation_O.astype(np.float32))

    def sample(self, observation_O: np.ndarray, noise_A: np.ndarray) -> np.ndarray:
        """The same of a squashed Gaussian with a standard normal draw ``[A]``."""
        return self._newest().sample(observation_O.astype(np.float32), noise_A)

    def _newest(self) -> NumpyPolicy:
        addresses = [parameters[kind].data_ptr() for parameters, kind in self._places]
        normalization = self._actor.normalization
        if normalization is not None:
            addresses += [tensor.data_ptr() for tensor in normalization]
        if addresses != self._addresses:
            arrays = [parameters[kind].detach().numpy() for parameters, kind in self._places]
            weight_and_bias = arrays[self._depth :]
            head = (weight_and_bias[0], weight_and_bias[1]) if weight_and_bias else None
            seen = None
            if normalization is not None:
                seen = normalization.mean.numpy(), normalization.scale.numpy()
            policy = StoredPolicy(tuple(arrays[: self._depth]), head=head, normalization=seen)
            low, high = self._actor.action_low.numpy(), self._actor.action_high.numpy()
            self._policy = NumpyPolicy(policy, low, high, copy=False)
            self._addresses = addresses
        return self._policy
