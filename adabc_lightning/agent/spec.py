"""What an agent must know of its environment."""

from dataclasses import dataclass

import gymnasium

from adabc_lightning.agent.bounds import bounded
from adabc_lightning.errors import UserError


@dataclass(frozen=True)
class EnvironmentSpec:
    """What the networks need to know of an environment.

    Args:
        env_id: Gymnasium id.
        observation_size: O, length of the flat observation.
        action_low, action_high: bounds per action dimension, action units.
        max_episode_steps: the time limit in steps, None for none.
        observation_parts: name and size of each part of the observation, in order; None where it
            has none.
    """

    env_id: str
    observation_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    max_episode_steps: int | None
    observation_parts: tuple[tuple[str, int], ...] | None = None

    @property
    def action_size(self) -> int:
        """A, length of an action."""
        return len(self.action_low)

    @classmethod
    def of(cls, env: gymnasium.Env, env_id: str) -> "EnvironmentSpec":
        """Reads the spaces of an environment.

        Raises: UserError: spaces that are not flat boxes, or actions without bounds.
        """
        observations, actions = env.observation_space, env.action_space
        if not isinstance(observations, gymnasium.spaces.Box) or len(observations.shape) != 1:
            raise UserError(
                f"environment {env_id!r} has observations {observations}; only a Box of one "
                "dimension is supported (gymnasium.wrappers.FlattenObservation makes one)"
            )
        if (
            not isinstance(actions, gymnasium.spaces.Box)
            or len(actions.shape) != 1
            or actions.dtype.kind != "f"
        ):
            raise UserError(
                f"environment {env_id!r} has actions {actions}; only a Box of one dimension "
                "and of floats (continuous actions) is supported"
            )
        if not bounded(actions.low, actions.high):
            raise UserError(
                f"environment {env_id!r} has unbounded actions {actions}; register it within "
                "gymnasium.wrappers.TransformAction(env, lambda action: action, "
                f"gymnasium.spaces.Box(LOW, HIGH, {actions.shape})), whose bounds are finite"
            )
        if not (actions.low < actions.high).any():
            raise UserError(
                f"environment {env_id!r} has actions {actions}, none of which can vary; there is "
                "nothing to learn"
            )
        return cls(
            env_id,
            int(observations.shape[0]),
            tuple(map(float, actions.low)),
            tuple(map(float, actions.high)),
            env.spec.max_episode_steps if env.spec else None,
            getattr(observations, "parts", None),
        )
