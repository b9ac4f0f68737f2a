"""A few random episodes in an environment, as a check of it and for a scale of its returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.env.make import make_env
from adabc_lightning.env.stepping import CheckedEnv, close

EPISODES = 10
MOST_STEPS = 1000  # of an episode without a time limit


@dataclass(frozen=True)
class RandomEpisodes:
    """What uniformly random actions did.

    Args:
        spec: sizes, bounds, time limit.
        observation_low, observation_high: bounds of the observation space ``[O]``.
        observations: all that were seen ``[T, O]``, first ones included.
        rewards: of every step ``[S]``.
        returns: raw return of each episode ``[E]``.
    """

    spec: EnvironmentSpec
    observation_low: np.ndarray
    observation_high: np.ndarray
    observations: np.ndarray
    rewards: np.ndarray
    returns: np.ndarray


def try_out(
    env_id: str,
    max_episode_steps: int | None,
    kwargs: Mapping[str, Any] | None = None,
    observation_keys: Sequence[str] | None = None,
) -> RandomEpisodes:
    """Runs :data:`EPISODES` episodes from fixed seeds.

    Args:
        env_id: Gymnasium id.
        max_episode_steps: another time limit than the environment's own; None keeps it.
        kwargs, observation_keys: see :func:`~adabc_lightning.env.make.make_env`.
    Raises: UserError: there is no such environment, or it has the wrong spaces.
        EnvironmentFailure: it raises or gives what no environment may give.
    """
    env = make_env(env_id, max_episode_steps, None, kwargs, observation_keys)
    try:
        spec = EnvironmentSpec.of(env, env_id)
        checked, generator = CheckedEnv(env), np.random.default_rng(0)
        low, high = inward(spec.action_low, spec.action_high)
        observations, rewards, returns = [], [], []
        for episode in range(EPISODES):
            observations.append(checked.reset(seed=episode))
            total, length, done = 0.0, 0, False
            while not done and length < (spec.max_episode_steps or MOST_STEPS):
                action = generator.uniform(low, high).astype(np.float32)
                observation, reward, terminated, truncated = checked.step(action)
                observations.append(observation)
                rewards.append(reward)
                total, length, done = total + reward, length + 1, terminated or truncated
            returns.append(total)
        space = env.observation_space
        bounds = np.array(space.low), np.array(space.high)  # type: ignore[attr-defined]
    finally:
        close(env)
    seen = np.stack(observations), np.array(rewards)
    return RandomEpisodes(spec, *bounds, *seen, np.array(returns))
