"""Small environments with Dict observations: one of MuJoCo's, and one of any space."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box, Dict, Discrete

MODEL = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body><joint name="x" type="slide" axis="1 0 0" damping="1"/><geom size="0.1" mass="1"/></body>
    <site name="target" pos="0 0 0"/>
  </worldbody>
  <actuator><motor joint="x" gear="5" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""
LIMIT = 12


class Slide(MujocoEnv):
    """A weight on a rail that is to come to a goal, which each reset draws."""

    metadata = {
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"],
        "render_fps": 25,
    }

    def __init__(self, model: str, reward_type: str = "sparse", **kwargs: Any) -> None:
        super().__init__(model, 2, None, **kwargs)
        self.reward_type, self.goal, self.pushes = reward_type, np.zeros(1), 0
        # Not in the order of the names, and one within another.
        goals = Dict(want=Box(-9, 9, (1,)), have=Box(-9, 9))
        # A plain dict's names are sorted, but for sort_keys=False, unknown to Gymnasium 1.2.
        self.observation_space = Dict(OrderedDict(state=Box(-9, 9, (2,)), goals=goals))

    def reset_model(self) -> dict[str, Any]:
        self.set_state(self.init_qpos + self.np_random.normal(size=1) * 0.1, self.init_qvel)
        self.goal, self.pushes = self.np_random.uniform(-1, 1, 1), 0
        return self.observation()

    def observation(self) -> dict[str, Any]:
        position = self.data.qpos.copy()
        state = np.concatenate([position, self.data.qvel])
        return {"state": state, "goals": {"have": position[0], "want": self.goal}}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict]:
        self.do_simulation(action, self.frame_skip)
        self.pushes += 1
        distance = abs(float(self.data.qpos[0] - self.goal[0])) + 0.01 * self.pushes
        reward = -distance if self.reward_type == "dense" else -float(distance > 0.1)
        return self.observation(), reward, False, False, {}


PARTS = (("goals.have", 1), ("goals.want", 1), ("state", 2))


def register_slide(folder: Path) -> str:
    """Registers the weight on a rail, its model in a folder, and returns its id."""
    (folder / "slide.xml").write_text(MODEL)
    kwargs = {"model": str(folder / "slide.xml")}
    gymnasium.registry.pop("AdabcSlide-v0", None)
    gymnasium.register("AdabcSlide-v0", Slide, max_episode_steps=LIMIT, kwargs=kwargs)
    return "AdabcSlide-v0"


class Seen(gymnasium.Env):
    """Gives what it is told to give, in the space that it is told to have."""

    def __init__(self, space: Dict, answers: Any = None) -> None:
        self.observation_space, self.action_space = space, Box(-1, 1, (1,))
        self.answers = answers

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return (self.answers or self.observation_space.sample()), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        return (self.answers or self.observation_space.sample()), 0.0, False, False, {}


def register_seen(space: Dict, answers: Any = None) -> str:
    """Registers an environment of a space, anew at each call, and returns its id."""
    gymnasium.registry.pop("AdabcSeen-v0", None)
    gymnasium.register("AdabcSeen-v0", lambda: Seen(space, answers), max_episode_steps=LIMIT)
    return "AdabcSeen-v0"


IMAGE, CHOICE = Box(0, 255, (4, 4, 3), np.uint8), Discrete(3)
