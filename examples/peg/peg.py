"""A gripper holds a peg above a table, seen from the side, and is to push it into a hole.

``--data.env_id peg:Peg-v0 --allow peg`` imports the module, which registers it.
"""

from typing import Any

import gymnasium
import numpy as np

FASTEST = 0.02  # metres a step
CLEARANCE = 0.008  # metres on each side
DEPTH = 0.06  # metres; the peg is in
REACH = 0.2  # metres from the middle, and above the table


class Peg(gymnasium.Env):
    """Observation: from tip to hole (m/10), position and velocity of the tip (m/10, m a step/100).

    Actions: the step that the tip is asked to make, sideways and up, in units of the fastest.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Above the table, at rest; the hole is somewhere in it."""
        super().reset(seed=seed)
        self.hole = np.array([self.np_random.uniform(-0.1, 0.1), 0.0])
        self.position = self.np_random.uniform([-0.15, 0.05], [0.15, 0.15])
        self.velocity = np.zeros(2)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """The reward is 1 when the peg is in, which ends the episode, else 0."""
        wanted = FASTEST * np.clip(action, -1, 1)
        self.velocity = self.velocity + 0.5 * (wanted - self.velocity)  # the arm lags behind
        was, low = self.position, np.array([-REACH, -DEPTH])
        self.position = np.clip(was + self.velocity, low, REACH)
        aside = self.hole[0] + np.array([-CLEARANCE, CLEARANCE])
        if was[1] < 0:  # its walls guide it
            self.position[0] = np.clip(self.position[0], *aside)
        elif self.position[1] < 0 and not aside[0] <= self.position[0] <= aside[1]:
            self.position[1] = 0.0  # on the table beside it
        self.velocity = self.position - was
        success = bool(self.position[1] <= -DEPTH)
        return self._observation(), float(success), success, False, {"is_success": success}

    def parts(self) -> dict[str, np.ndarray]:
        """What is observed, by robomimic's names."""
        return {
            "object": 10 * (self.hole - self.position),
            "robot0_eef_pos": 10 * self.position,
            "robot0_eef_vel": 100 * self.velocity,
        }

    def _observation(self) -> np.ndarray:
        return np.concatenate(list(self.parts().values())).astype(np.float32)


gymnasium.register("Peg-v0", Peg, max_episode_steps=60)
