"""One environment, one step at a time, in the exact order of Algorithm 1.

TorchRL's ``Collector`` is not used: it steps Hopper at a fifth of this loop's rate and its
state cannot be saved in the middle of an episode.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import gymnasium
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from adabc_lightning.agent.bounds import inward
from adabc_lightning.data.rewards import Reward
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.saved import Steps, saved_environment
from adabc_lightning.env.state import Bookmark, set_state
from adabc_lightning.env.stepping import CheckedEnv, check_action
from adabc_lightning.errors import EnvironmentFailure, UserError
from adabc_lightning.run.saved import Count, Number, NumpyGenerator, one_of, tensor
from adabc_lightning.run.seeding import stream_seed

Explore = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""An observation ``[O]`` and a standard normal draw ``[A]`` → the action ``[A]``, action units."""


class Episode(NamedTuple):
    """A finished training episode."""

    episode_return: float
    """Raw undiscounted return, exploration noise included."""
    steps: int


class SavedCollector(Steps):
    """Where a run is in its environment."""

    reset_seed: Count | None
    noise: NumpyGenerator
    observation: Annotated[Tensor, tensor(1)] | None
    episode_return: Number = Field(alias="return")
    steps: Count
    env: Annotated[Any, one_of(saved_environment)] | None


class Collector:
    """Acts with exploration noise and turns each step into a packed row.

    Args:
        env: the training environment.
        layout: columns of a row.
        seed: the run's seed.
        rank: global rank of the process.
        timeout: seconds that a step or reset may take, None for any.
        ranks: processes that step at the same time; ``env_steps`` counts the steps of all.
        reward: gives the rows their rewards; None: the environment does. Returns are its own.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        layout: Layout,
        seed: int,
        rank: int = 0,
        timeout: float | None = None,
        ranks: int = 1,
        reward: Reward | None = None,
    ) -> None:
        self.env, self._ranks, self._reward = env, ranks, reward
        self._checked, self._bookmark = CheckedEnv(env, timeout), Bookmark(env)
        self._before: dict[str, Any] | None = None
        self._seed, self._rank = seed, rank
        self.layout = layout
        self.env_steps = 0
        self.finished_episode: Episode | None = None
        self.continues = False
        """Whether the newest step followed the one before it in its episode."""
        self._reset_seed: int | None = stream_seed(seed, "environment", rank) % 2**31
        self._noise = np.random.default_rng(stream_seed(seed, "exploration", rank))
        space = env.action_space
        assert isinstance(space, gymnasium.spaces.Box)  # EnvironmentSpec.of has checked it
        self._low, self._high = inward(space.low, space.high)
        self._observation: np.ndarray | None = None
        self._return, self._steps = 0.0, 0

    def step(self, explore: Explore) -> Tensor:
        """Acts once: ``a = clip(explore(s, ε), low, high)``, ε ~ N(0, 1).

        ``finished_episode`` is set when this step ended an episode, else None; the reset
        waits for the next call.

        Args:
            explore: the newest policy with its noise.
        Returns: the packed row ``[width]``, ``online`` set.
        Raises: NotFinite: the policy's action is no number.
            EnvironmentFailure: the environment raises, hangs or gives what none may give, or the
            function of rewards does; the state is then that from before this step.
        """
        resets = self._observation is None
        noise_state = self._noise.bit_generator.state
        if resets:
            before = self.state_dict()
        else:
            self._bookmark.set()
        try:
            return self._step(explore)
        except EnvironmentFailure as failure:
            if not resets:
                stood = self._bookmark.state()
                before = {**self.state_dict(), "env": stood, "noise": noise_state}
            self._before, failure.undone = before, True
            failure.add(f" (environment step {self.env_steps + 1:,} of the run)")
            raise

    def _step(self, explore: Explore) -> Tensor:
        if self._observation is None:
            self._observation = self._checked.reset(self._reset_seed)
            self._reset_seed = None
            self._return, self._steps = 0.0, 0
        noise_A = self._noise.standard_normal(self._low.shape)
        # Bounds by two functions: np.clip takes twice as long for a few numbers.
        action = np.minimum(np.maximum(explore(self._observation, noise_A), self._low), self._high)
        action = action.astype(np.float32)
        check_action(action)
        next_observation, reward, terminated, truncated = self._checked.step(action)
        # A time limit never stops bootstrapping.
        packed = self.layout.pack(self._observation, action, reward, next_observation, terminated)
        if self._reward is not None:
            packed[self.layout.columns["reward"]] = self._reward.of_step(packed, self.layout)
        self.env_steps += self._ranks
        self._return += reward
        self._steps += 1
        self.continues = self._steps > 1
        if terminated or truncated:
            self.finished_episode = Episode(self._return, self._steps)
            self._observation = None
        else:
            self.finished_episode = None
            self._observation = next_observation
        return packed

    def close(self) -> None:
        """Closes the environment."""
        self._checked.close()

    def state_dict(self) -> dict[str, Any]:
        """Counters, generator, current observation and the environment's full state."""
        if self._before is not None:
            return self._before
        observation = self._observation
        return {
            "env_steps": self.env_steps,
            "reset_seed": self._reset_seed,
            "noise": self._noise.bit_generator.state,
            "observation": None if observation is None else torch.tensor(observation),
            "return": self._return,
            "steps": self._steps,
            "env": self._bookmark.now() if self.env_steps else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """The inverse of :meth:`state_dict`.

        Returns: whether the environment goes on exactly; False when its state could not be
            captured, in which case a new episode starts with the next step.
        """
        self.env_steps = state["env_steps"]
        self._reset_seed = state["reset_seed"]
        self._noise.bit_generator.state = state["noise"]
        if not self.env_steps:
            return True
        if state["env"] is None:
            purpose = f"environment after {self.env_steps} steps"
            self._reset_seed = stream_seed(self._seed, purpose, self._rank) % 2**31
            return False
        self._checked.restore(set_state, state["env"])
        self._checked.episode_steps = state["steps"]
        observation = state["observation"]
        if observation is not None and observation.shape != self.env.observation_space.shape:
            raise UserError(
                f"the checkpoint's observation has shape {list(observation.shape)}, this "
                f"environment's {list(self.env.observation_space.shape or ())}; resume with the "
                "environment of the run"
            )
        self._observation = None if observation is None else observation.numpy()
        self._return, self._steps = state["return"], state["steps"]
        return True
