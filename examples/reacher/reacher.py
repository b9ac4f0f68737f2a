"""An arm of two links in a plane, whose tip is to reach a target and stay there.

``--data.env_id reacher:TwoLinks-v0 --allow reacher`` imports the module, which registers it.
"""

from typing import Any

import gymnasium
import numpy as np

LINKS = 0.5, 0.4  # metres
PERIOD = 0.05  # seconds
FASTEST = 2.0  # rad/s
NEAR = 0.03  # metres; a target that is nearer than this is reached


class TwoLinks(gymnasium.Env):
    """Observation: from tip to target (m), joint angles (rad), joint velocities (rad/s).

    Actions: the two joint velocities that the servos are asked for, in units of the fastest.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (6,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """At rest, with a target in front of the arm."""
        super().reset(seed=seed)
        draw = self.np_random.uniform
        self.angles = draw([-0.5, 0.8], [0.5, 1.6])
        self.velocities = np.zeros(2)
        distance, direction = draw(0.35, 0.8), draw(-0.6, 1.6)
        self.target = distance * np.array([np.cos(direction), np.sin(direction)])
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """A twentieth of a second; the reward is 1 at the target and falls with the distance."""
        wanted = FASTEST * np.clip(action, -1, 1)
        self.velocities = self.velocities + 0.4 * (wanted - self.velocities)  # servos lag behind
        self.angles = self.angles + PERIOD * self.velocities
        reward = float(np.exp(-5 * np.linalg.norm(self.target - tip(self.angles))))
        return self._observation(), reward, False, False, self._info()

    def _observation(self) -> np.ndarray:
        parts = self.target - tip(self.angles), self.angles, self.velocities
        return np.concatenate(parts).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {"is_success": bool(np.linalg.norm(self.target - tip(self.angles)) < NEAR)}


def tip(angles: np.ndarray) -> np.ndarray:
    """Where the arm ends ``[2]``, metres from its shoulder."""
    elbow = angles[0] + angles[1]
    return np.array([
        LINKS[0] * np.cos(angles[0]) + LINKS[1] * np.cos(elbow),
        LINKS[0] * np.sin(angles[0]) + LINKS[1] * np.sin(elbow),
    ])  # fmt: skip


gymnasium.register("TwoLinks-v0", TwoLinks, max_episode_steps=60)
