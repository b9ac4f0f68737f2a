"""Two tanks, one draining into the other, and the two valves that fill them.

``--data.env_id tanks:Tanks-v0 --allow tanks`` imports the module, which registers it.
"""

from typing import Any

import gymnasium
import numpy as np

PERIOD = 2.0  # seconds
HIGHEST = 1.0  # metres


class Tanks(gymnasium.Env):
    """Observation: both levels, both wanted levels (m), both flows (of the largest).

    Actions: how far the valves are asked to open, from -1, shut, to 1.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Some water in both, and other levels wanted."""
        super().reset(seed=seed)
        self.levels = self.np_random.uniform(0.1, 0.9, 2)
        self.wanted = self.np_random.uniform([0.2, 0.4], [0.5, 0.8])
        self.flows = np.full(2, 0.5)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Two seconds; valves follow slowly, water leaves by the root of its level."""
        opening = (np.clip(action, -1, 1) + 1) / 2
        self.flows = self.flows + 0.3 * (opening - self.flows)
        out = 0.04 * np.sqrt(self.levels)
        change = 0.06 * self.flows - out + np.array([0.0, out[0]])
        self.levels = np.clip(self.levels + PERIOD * change, 0, HIGHEST)
        observation = self._observation()
        arrays = observation[None], np.asarray(action, np.float32)[None], observation[None]
        return observation, float(reward(*arrays)[0]), False, False, {}

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.levels, self.wanted, self.flows]).astype(np.float32)


def reward(observation: np.ndarray, action: np.ndarray, following: np.ndarray) -> np.ndarray:
    """1 where both levels are as wanted, less with every centimetre, and a little for the water.

    Args:
        observation, action, following: ``[T, 6]``, ``[T, 2]``, ``[T, 6]``.
    Returns: ``[T]``.
    """
    error = np.abs(following[:, :2] - following[:, 2:4]).sum(1)
    return np.exp(-4 * error) - 0.02 * following[:, 4:].sum(1)


gymnasium.register("Tanks-v0", Tanks, max_episode_steps=80)
