"""What an environment keeps in lists, dicts, objects and texts: enough to see that it changed."""

import hashlib
import random
from collections import deque
from collections.abc import Iterable
from logging import Logger
from types import FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

MOST_ENTRIES = 10_000
"""An array or container with more entries than this is taken for a constant (a map)."""
_DEPTH = 4
"""Levels of nesting that are looked at; what lies deeper is taken for a constant."""
_CONSTANT = (
    *(gymnasium.Env, gymnasium.Space, EnvSpec),
    *(type, FunctionType, MethodType, ModuleType, Logger),
)
# Generators that a state has, numbers and arrays that it has, and what draws pictures.
_ASIDE = ("_np_random", "_np_random_seed", "mujoco_renderer")
_SIMPLE = (str, bytes, int, float, np.generic, type(None))


class _TooMuch(Exception):
    pass


def contents(holders: Iterable[Any]) -> list[dict[str, str]] | None:
    """Digests of the attributes that are neither numbers nor arrays.

    Args:
        holders: environments and wrappers.
    Returns: equal lists where nothing that can be seen has changed; None where they cannot be
        looked at, as while somebody else changes them.
    """
    try:
        return [
            {
                name: _digest(value)
                for name, value in vars(holder).items()
                if name not in _ASIDE and not _is_number(value) and not isinstance(value, _CONSTANT)
            }
            for holder in holders
        ]
    except Exception:  # of somebody else's objects
        return None


def _is_number(value: Any) -> bool:
    """Or an array of them, or nothing."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fiub"
    return isinstance(value, (int, float, np.generic, type(None)))


def _digest(value: Any) -> str:
    """Of a value; that of its type alone where there is too much of it."""
    digest, left = hashlib.blake2b(digest_size=16), [MOST_ENTRIES]
    try:
        _feed(digest, value, _DEPTH, left)
    except _TooMuch:
        return type(value).__name__
    return digest.hexdigest()


def _feed(digest: Any, value: Any, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise _TooMuch
    if depth == 0 or isinstance(value, _CONSTANT):
        return
    if isinstance(value, _SIMPLE):
        digest.update(f"{type(value).__name__} {value!r};".encode())  # NaN equals itself then
        return
    if hasattr(value, "detach"):  # PyTorch's
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype != object:
        left[0] -= value.size
        if left[0] < 0:
            raise _TooMuch
        digest.update(f"{value.shape} {value.dtype.str};".encode())
        digest.update(value.tobytes())
        return
    digest.update(f"{type(value).__name__}(".encode())
    for part in _parts(value):
        _feed(digest, part, depth - 1, left)
    digest.update(b");")


def _parts(value: Any) -> Iterable[Any]:
    """What is within a container, a generator of random numbers or another object."""
    if isinstance(value, np.random.Generator):
        return [repr(value.bit_generator.state)]
    if isinstance(value, (np.random.RandomState, random.Random)):
        state = value.get_state() if hasattr(value, "get_state") else value.getstate()
        return [repr(state)]
    if isinstance(value, dict):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, (list, tuple, deque, np.ndarray)):
        return value
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    kept = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    # Compiled ones have neither, such as the simulator's own, which are captured.
    return [part for pair in {**kept, **getattr(value, "__dict__", {})}.items() for part in pair]
