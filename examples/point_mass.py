"""An environment of your own: a point with a motor, which is to stay at the origin of a plane.

Importing the module registers it; ``--data.env_id point_mass:PointMass-v0 --allow point_mass``
imports the module. Python looks for it in the working folder and in what is installed.
"""

from typing import Any

import gymnasium
import numpy as np

STEP = 0.1  # seconds
EDGE = 2.0  # metres; beyond it the point is lost


class PointMass(gymnasium.Env):
    """Observations: position and velocity (m, m/s); actions: a force along each axis (N)."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """At rest, somewhere a metre or so away."""
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1, 2)
        self.velocity = np.zeros(2)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """A tenth of a second; the reward is 1 at the origin and falls with the distance."""
        force = np.clip(action, -1, 1)
        self.velocity = self.velocity + STEP * (2 * force - 0.1 * self.velocity)
        self.position = self.position + STEP * self.velocity
        reward = float(np.exp(-3 * np.linalg.norm(self.position)))
        terminated = bool((abs(self.position) > EDGE).any())
        # Time limits are Gymnasium's business (max_episode_steps): never report them as terminated.
        return self._observation(), reward, terminated, False, {}

    def state_dict(self) -> dict[str, Any]:
        """With it and the next a run that was cut goes on exactly, in the middle of an episode."""
        return {"position": self.position, "velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """After a reset."""
        self.position, self.velocity = state["position"], state["velocity"]

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.position, self.velocity])


gymnasium.register("PointMass-v0", PointMass, max_episode_steps=100)
