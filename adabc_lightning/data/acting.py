"""How a run acts: in its environment, or by what it publishes for the one who acts for a log."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import gymnasium
import numpy as np
from lightning import LightningDataModule

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.numpy_policy import StoredPolicy
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.collector import Collector, Episode
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.log import LogCollector
from adabc_lightning.data.rewards import Reward
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.exchange import PREFIX, Exchange, Publication
from adabc_lightning.env.make import make_env, try_one_step
from adabc_lightning.env.options import check_env_kwargs
from adabc_lightning.env.stepping import can_time_out, close
from adabc_lightning.errors import UserError, warn
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.schedule import Schedule


class Acting(LightningDataModule):
    """The environment of a data module, or its log, from the first look at it to the last step.

    Args: as those of :class:`~adabc_lightning.data.module.ReplayDataModule`.
    Raises: UserError: the environment is missing or broken.
    """

    layout: Layout
    online_reward: Reward | None
    collector: Collector | LogCollector

    def __init__(
        self,
        env_id: str,
        schedule: Schedule,
        exploration_noise: float,
        frozen_actions: Literal["policy", "uniform"],
        max_episode_steps: int | None,
        step_timeout: float | None,
        env_kwargs: Mapping[str, Any] | None,
        observation_keys: Sequence[str] | None,
        seed: int,
    ) -> None:
        super().__init__()
        if not isinstance(env_id, str):
            raise UserError(
                f"data.env_id is a {type(env_id).__name__}; it must be the id of a registered "
                "environment (gymnasium.register), of which a run makes several"
            )
        if frozen_actions == "uniform" and env_id.startswith(PREFIX):
            raise UserError(
                f"data.frozen_actions is uniform, but data.env_id is {env_id!r}, a log whose robot "
                "acts with the policy; set it to policy"
            )
        self.env_kwargs, self._keys = check_env_kwargs(env_kwargs), observation_keys
        if self.env_kwargs and env_id.startswith(PREFIX):
            raise UserError(
                f"data.env_kwargs is {self.env_kwargs}, but data.env_id is {env_id!r}, a log; set "
                "it to null"
            )
        self.env_id, self.schedule, self.seed = env_id, schedule, seed
        self.exploration_noise, self.frozen_actions = exploration_noise, frozen_actions
        self.max_episode_steps, self.step_timeout = max_episode_steps, step_timeout
        self.ranks = Ranks()
        self.finished_episodes: list[Episode] = []
        """Those of all ranks, in their order, that ended with the newest environment step."""
        self._idlers: list[RunCallback] = []
        self.log = Exchange(env_id.removeprefix(PREFIX)) if env_id.startswith(PREFIX) else None
        self.spec = self._make_spec()

    def _make_spec(self) -> EnvironmentSpec:
        if self.log is None:
            env = self.make_env()
            spec = EnvironmentSpec.of(env, self.env_id)
            close(env)
            return spec
        space = self.log.space()
        return EnvironmentSpec(
            self.env_id,
            space.observation_size,
            space.action_low,
            space.action_high,
            self.max_episode_steps or space.max_episode_steps,
            space.observation_parts,
        )

    @property
    def agent(self) -> OffToOnModule:
        """The module being trained: the newest policy and the update counter."""
        return self.trainer.lightning_module  # type: ignore[union-attr,return-value]

    @property
    def env_steps(self) -> int:
        """Environment steps of fine-tuning so far, those of all ranks."""
        return self.collector.env_steps

    def make_env(self) -> gymnasium.Env:
        """One more environment like the run's.

        Raises: UserError: it cannot be made, or the run learns from a log and has none.
        """
        if self.log is not None:
            raise UserError(
                f"data.env_id is {self.env_id!r}, a log; there is no environment to evaluate in"
            )
        return make_env(
            self.env_id,
            self.max_episode_steps,
            kwargs=self.env_kwargs,
            observation_keys=self._keys,
        )

    def try_env(self, first: bool) -> None:
        """Makes a step in the environment before anything else takes time.

        Args:
            first: whether this one gives the warnings: of several ranks or replicas only the first
                does.
        Raises: UserError: it cannot be stepped, or not be timed here.
        """
        if self.log is not None:
            return
        if self.step_timeout is not None and not can_time_out():
            raise UserError(
                f"data.step_timeout is {self.step_timeout}, but calls can be timed on Unix and in "
                "the main thread only; set it to null here"
            )
        try_one_step(self.make_env(), self.step_timeout)
        if self.spec.max_episode_steps is None and first:
            warn(
                f"environment {self.env_id!r} is registered without a time limit: an episode, "
                "and an evaluation, lasts until the environment ends it; where it may not, set "
                "data.max_episode_steps"
            )

    def make_collector(self) -> Collector | LogCollector:
        """What makes the run's steps."""
        if self.log is not None:
            return LogCollector(
                self.log,
                self.layout,
                publish=self._publish,
                idle=self.idle,
                timeout=self.step_timeout,
                reward=self.online_reward,
            )
        return Collector(
            self.make_env(),
            self.layout,
            seed=self.seed,
            rank=self.ranks.rank,
            timeout=self.step_timeout,
            ranks=self.ranks.count,
            reward=self.online_reward,
        )

    def idle(self) -> None:
        """While a run waits for an environment, or for a log: each callback may end it."""
        for callback in self._idlers:
            callback.on_idle(self, self.agent)

    def _publish(self, episodes: int, finished: bool = False) -> None:
        """The newest policy, for the process that acts."""
        assert self.log is not None
        agent, std = self.agent, self.agent.exploration_scale()
        policy = StoredPolicy.of_actor(agent.actor.state_dict())
        if policy.head is None:
            if std is None:
                std = np.full(self.spec.action_size, self.exploration_noise, np.float32)
            policy = replace(policy, std=std)
        counters = episodes, self.env_steps, agent.gradient_updates
        self.log.write_policy(Publication(policy, *counters, finished))

    def explore(self, observation: np.ndarray, noise_A: np.ndarray) -> np.ndarray:
        """How the agent acts at this point of fine-tuning.

        Args:
            observation: ``[O]``.
            noise_A: standard normal draws.
        Returns: ``[A]``, action units; it may lie outside the range.
        """
        if self.frozen_actions == "uniform" and self.env_steps < self.schedule.frozen_env_steps:
            low_A, high_A = np.array(self.spec.action_low), np.array(self.spec.action_high)
            # Uniform by the normal's distribution function, so that there is one stream of draws,
            # whatever acts.
            share_A = [(1 + math.erf(noise / math.sqrt(2))) / 2 for noise in noise_A]
            return low_A + (high_A - low_A) * share_A
        return self.agent.explore(observation, noise_A, self.exploration_noise)

    def teardown(self, stage: str) -> None:
        """Closes the training environment, or tells who acts for a log that this is the end."""
        if stage != "fit":
            return
        if isinstance(self.collector, LogCollector) and self.schedule.finished(
            self.agent.gradient_updates, self.env_steps
        ):
            self._publish(self.collector.episodes, finished=True)
        self.collector.close()
        self.ranks.close()

    def on_exception(self, exception: BaseException) -> None:
        """The same where a run ends in an error: Lightning has no teardown then."""
        self.ranks.fail(exception)
        if isinstance(exception, Exception) and hasattr(self, "collector"):
            self.collector.close()
