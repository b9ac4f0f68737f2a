"""What an environment keeps in lists, dicts, deques and objects: enough to see that it changed."""

from collections import deque
from collections.abc import Iterable
from logging import Logger
from types import FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

_DEPTH = 4
"""So far within each other; what is deeper is taken for a constant."""
_CONSTANT = (
    *(gymnasium.Env, gymnasium.Space, EnvSpec, np.random.Generator),
    *(type, FunctionType, MethodType, ModuleType, Logger),
)
LARGEST = 10_000
"""Numbers of an array, or items of a container: what has more is a constant (a map)."""
_SIMPLE = (str, bytes, int, float, np.generic, type(None))


def contents(holders: Iterable[Any]) -> list[Any]:
    """Of the attributes of some objects those that are containers or objects, as plain values.

    Numbers, texts, arrays, spaces and functions that are attributes themselves are left out.

    Args:
        holders: environments and wrappers.
    Returns: equal lists where nothing that can be seen has changed.
    """
    return [
        {
            name: _plain(value, _DEPTH)
            for name, value in vars(holder).items()
            if not isinstance(value, (np.ndarray, *_SIMPLE, *_CONSTANT))
        }
        for holder in holders
    ]


def _plain(value: Any, depth: int) -> Any:
    if depth == 0 or isinstance(value, _CONSTANT):
        return None
    if isinstance(value, np.ndarray):
        small = value.size <= LARGEST
        return (value.shape, value.dtype.str, value.tobytes()) if small else value.shape
    if isinstance(value, _SIMPLE):
        return repr(value)  # NaN equals itself then
    if isinstance(value, (dict, set, frozenset, list, tuple, deque)) and len(value) > LARGEST:
        return len(value)
    if isinstance(value, dict):
        return {repr(key): _plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (list, tuple, deque)):
        return [_plain(each, depth - 1) for each in value]
    try:
        attributes = vars(value)
    except TypeError:  # compiled, such as the simulator's own, which is captured
        return None
    return {name: _plain(each, depth - 1) for name, each in attributes.items()}
