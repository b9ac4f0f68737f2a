"""Policies outside of PyTorch: what collects data and robots act with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adabc_lightning.agent.bounds import inward

_EPSILON = 1e-6  # agent.norm's, which needs PyTorch


@dataclass(frozen=True)
class StoredPolicy:
    """A policy's weights, float32.

    Args:
        layers: one by one: weight ``[H, I]``, bias ``[H]``.
        std: its own standard deviation ``[A]`` in action limits; None where it has none.
        normalization: mean and scale ``[O]`` of :mod:`adabc_lightning.agent.normalization`; None:
            observations go in as they are.
        head: of a squashed Gaussian (:mod:`adabc_lightning.agent.gaussian`) weight ``[A, H]`` and
            bias ``[A]`` of log σ(s), beside the last of ``layers``, and where they are learnt the
            factor and the offset ``[1]`` of what those give; None where σ is ``std``.
        norms: scale and shift ``[H]`` of each hidden layer, where they are normalised before their
            activation; none where they are not.
        log_std_range: of a squashed Gaussian's log σ.
    """

    layers: tuple[np.ndarray, ...]
    std: np.ndarray | None = None
    head: tuple[np.ndarray, ...] | None = None
    norms: tuple[np.ndarray, ...] = ()
    log_std_range: tuple[float, float] = (-20.0, 2.0)
    normalization: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of_actor(cls, state: Mapping[str, Any]) -> "StoredPolicy":
        """From the state of an actor, without its ``log_std``.

        Args:
            state: ``net.LAYER.weight [H, I]`` and ``net.LAYER.bias [H]``, those of layers that
                normalise ``[H]``, ``observation_mean`` and ``observation_scale``, if any, and what
                a squashed Gaussian has beside → tensor or array.
        Raises: KeyError: a bias or a weight is missing.
        """
        numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith("net.")})
        places = [f"net.{number}" for number in numbers]
        normalise = [place for place in places if state[f"{place}.weight"].ndim == 1]

        def arrays(names: Sequence[str]) -> tuple[np.ndarray, ...]:
            kinds = ("weight", "bias")
            return tuple(_float32(state[f"{name}.{kind}"]) for name in names for kind in kinds)

        layers = arrays([place for place in places if place not in normalise])
        seen = None
        if "observation_mean" in state:
            seen = _float32(state["observation_mean"]), _float32(state["observation_scale"])
        if "log_std_head.weight" not in state:
            return cls(layers, norms=arrays(normalise), normalization=seen)
        scalars = tuple(_float32(state[n]) for n in ("scalars.0", "scalars.1") if n in state)
        low, high = map(float, state["log_std_range"])
        head = (*arrays(["log_std_head"]), *scalars)
        return cls(layers, None, head, arrays(normalise), (low, high), seen)

    def fits(self, actions: int) -> bool:
        """Whether it has layers, each of which takes what the one before gives.

        Args:
            actions: A.
        """
        layers, heads = self.layers, [] if self.head is None else [self.head[:2]]
        return (
            _is_chain(layers)
            and len(layers[-1]) == actions
            and all(_is_chain((*layers[:-2], *head)) for head in heads)
            and all(head[1].shape == layers[-1].shape for head in heads)
            and (
                not self.norms
                or [n.shape for n in self.norms]
                == [bias.shape for bias in layers[1:-2:2] for _ in "ab"]
            )
        )

    @property
    def samples(self) -> bool:
        """Whether it has noise of its own."""
        return self.std is not None or self.head is not None

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, arrays ``[*]``, for :meth:`of_arrays`."""
        groups = {"layer": self.layers, "norm": self.norms, "head": self.head or ()}
        groups["normalization"] = self.normalization or ()
        named = {f"{name}_{i}": a for name, group in groups.items() for i, a in enumerate(group)}
        if self.std is not None:
            named["std"] = self.std
        if self.head is not None:
            named["log_std_range"] = np.array(self.log_std_range)
        return named

    @classmethod
    def of_arrays(cls, named: Mapping[str, np.ndarray]) -> "StoredPolicy":
        """The inverse of :meth:`arrays` for a policy with noise of its own.

        Args:
            named: arrays ``[*]``; others may be among them.
        Raises: KeyError: one is missing.
        """

        def group(name: str) -> tuple[np.ndarray, ...]:
            count = sum(each.startswith(f"{name}_") for each in named)
            return tuple(named[f"{name}_{i}"] for i in range(count))

        seen = None
        if "normalization_0" in named:
            seen = named["normalization_0"], named["normalization_1"]
        if "head_0" not in named:
            return cls(group("layer"), named["std"], norms=group("norm"), normalization=seen)
        low, high = map(float, named["log_std_range"])
        return cls(group("layer"), None, group("head"), group("norm"), (low, high), seen)


def _float32(numbers: Any) -> np.ndarray:
    tensor = numbers.detach().cpu().float() if hasattr(numbers, "detach") else numbers
    return np.asarray(tensor, np.float32)


def _is_chain(layers: tuple[np.ndarray, ...]) -> bool:
    """Whether each layer, weight ``[H, I]`` and bias ``[H]``, takes what the one before gives."""
    weights, biases = layers[::2], layers[1::2]
    fits = [w.ndim == 2 and b.shape == w.shape[:1] for w, b in zip(weights, biases, strict=True)]
    chained = all(fits) and [w.shape[1] for w in weights[1:]] == [len(w) for w in weights[:-1]]
    return bool(layers) and chained


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
        self._norms = list(zip(policy.norms[::2], policy.norms[1::2], strict=True))
        head = policy.head
        self._head = None if head is None else (*turned(head[0], head[1]), *head[2:])
        self._log_std_range = policy.log_std_range
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
        weight, bias, *scalars = self._head
        features, (low, high) = self._features(observation_BO), self._log_std_range
        log_std_BA = features @ weight + bias
        if scalars:
            log_std_BA = log_std_BA * scalars[0] + scalars[1]
        log_std_BA = np.minimum(np.maximum(log_std_BA, np.float32(low)), np.float32(high))
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
        for layer, (weight, bias) in enumerate(self._hidden):
            x = x @ weight
            x += bias
            if self._norms:
                scale, shift = self._norms[layer]
                x -= x.mean(-1, keepdims=True)
                x *= scale / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(_EPSILON))
                x += shift
            np.maximum(x, 0, out=x)
        return x

    def _mean(self, x: np.ndarray) -> np.ndarray:
        """Before the tanh."""
        weight, bias = self._output
        x = x @ weight
        x += bias
        return x
