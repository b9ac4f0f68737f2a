"""Environments with Dict observations, as ones with flat observations."""

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict

from adabc_lightning.env.observations import Parts, choose, flatten
from adabc_lightning.errors import UserError, key_of, one_line


class FlatBox(Box):
    """The box of observations whose parts are known.

    Args:
        low, high: bounds ``[O]``, of the type of the observations.
        parts: name and size of each part.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, parts: Parts) -> None:
        super().__init__(low, high, dtype=low.dtype.type)
        self.parts = parts


class FlatObservation(gymnasium.ObservationWrapper):
    """An environment whose observations are parts of its Dict observations, side by side.

    Args:
        env: with a Dict observation space, nested or not.
        env_id: for messages.
        keys: ``data.observation_keys``; None for all parts.
    Raises: UserError: a part is not there or not flat, or two have one name.
    """

    def __init__(self, env: gymnasium.Env, env_id: str, keys: Sequence[str] | None) -> None:
        super().__init__(env)
        where = f"environment {env_id!r}"
        paths: dict[str, tuple[str, ...]] = {}
        found: dict[str, gymnasium.Space] = {}
        assert isinstance(env.observation_space, Dict)
        for path, space in _leaves(env.observation_space, ()):
            name = ".".join(path)
            if name.lower() in map(str.lower, found):
                raise UserError(
                    f"{where} has two parts of observations named {one_line(name)!r} (a.b is b in "
                    "a, and case does not count); rename one"
                )
            paths[name], found[name] = path, space
        flat = {n: s for n, s in found.items() if isinstance(s, Box) and _is_flat(s)}
        if keys is None and flat and (others := [name for name in found if name not in flat]):
            listed = ", ".join(choose(flat, found, None, where))
            raise UserError(
                f"{where} has observations {others[0]!r} of {one_line(str(found[others[0]]))}; "
                "only a Box of one dimension can be part of an observation: name the others in "
                f"{key_of('observation_keys')}: {listed}"
            )
        chosen = choose(flat, found, keys, where)
        self.parts: Parts = tuple((name, int(np.prod(flat[name].shape))) for name in chosen)
        self._leaves = [(paths[name], flat[name]) for name in chosen]
        kind = np.result_type(*(flat[name].dtype for name in chosen))
        low, high = (
            np.concatenate([getattr(flat[name], end).ravel() for name in chosen]).astype(kind)
            for end in ("low", "high")
        )
        self.observation_space = FlatBox(low, high, self.parts)

    def observation(self, observation: Any) -> np.ndarray:
        """``[O]``; what does not fit raises :class:`~adabc_lightning.env.observations.Misfit`."""
        return flatten(observation, self.parts)

    def nested_space(self) -> Dict:
        """The Dict space of the parts alone."""
        return _nested_space(self._leaves)

    def nested(self, observations: np.ndarray) -> dict[str, Any]:
        """Observations ``[B, O]`` as the Dict space has them: each part ``[B, …]`` in its place."""
        ends = np.cumsum([size for _, size in self.parts])[:-1]
        tree: dict[str, Any] = {}
        for (path, space), part in zip(self._leaves, np.split(observations, ends, 1), strict=True):
            _put(tree, path, part.reshape(len(observations), *space.shape).astype(space.dtype))
        return tree


def _leaves(
    space: Dict, outer: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], gymnasium.Space]]:
    for key, inner in space.spaces.items():
        path = (*outer, str(key))
        if isinstance(inner, Dict):
            yield from _leaves(inner, path)
        else:
            yield path, inner


def _is_flat(space: Box) -> bool:
    return len(space.shape) < 2 and 0 not in space.shape and space.dtype.kind in "fiub"


def _nested_space(leaves: Sequence[tuple[tuple[str, ...], Box]]) -> Dict:
    inner: dict[str, list[tuple[tuple[str, ...], Box]]] = {}
    spaces: dict[str, gymnasium.Space] = {}
    for (key, *rest), space in leaves:
        if rest:
            inner.setdefault(key, []).append((tuple(rest), space))
        else:
            spaces[key] = space
    return Dict(spaces | {key: _nested_space(each) for key, each in inner.items()})


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value
