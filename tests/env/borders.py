"""Environments that share, keep or change what crosses their border, and such with odd boxes."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Line(gymnasium.Env):
    """A point in three dimensions, pushed along the first."""

    low: Any = -1.0
    high: Any = 1.0
    kind: Any = np.float32

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (3,), np.float64)
        low, high = np.atleast_1d(self.low), np.atleast_1d(self.high)
        self.action_space = Box(low.astype(self.kind), high.astype(self.kind), dtype=self.kind)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=3)
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        return self.x.copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.x *= 0.9  # in place, as simulators do
        self.x[0] += 0.3 * float(action[0])
        return self.observe(), -float((self.x**2).sum()), False, False, {}


class View(Line):
    """Gives its state itself, and takes the action for its own."""

    def observe(self) -> np.ndarray:
        return self.x

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        answer = super().step(action)
        action[:] = 7  # where it can: a read-only array would fail
        return answer


class Fixed(Line):
    """Float64 bounds that float32 has not, two actions that are fixed."""

    low, high, kind = (-0.1, 0.1, 0.0), (0.3, 0.1, 0.0), np.float64


class Unbounded(Line):
    low, high = -np.inf, np.inf


class Huge(Line):
    low, high = -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)


class Still(Line):
    low, high = 0.5, 0.5


class Column(Line):
    def observe(self) -> np.ndarray:
        return self.x.reshape(3, 1)


class Random(Line):
    """Draws from the process's own generator."""

    def observe(self) -> np.ndarray:
        return self.x + np.random.normal(size=3)


def register(kind: type[Line], limit: int | None = 20) -> str:
    """Registers the class once and returns its id."""
    name = f"AdabcBorder{kind.__name__}{limit or 'Endless'}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, kind, max_episode_steps=limit)
    return name
