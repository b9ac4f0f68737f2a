"""The process that acts, where the environment is a robot: ask for a policy, tell what happened.

It needs NumPy and no PyTorch; ``fit --data.env_id log:FOLDER`` learns from it in another process.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adabc_lightning.agent.bounds import inward
from adabc_lightning.agent.numpy_policy import NumpyPolicy
from adabc_lightning.env.exchange import (
    Exchange,
    LoggedEpisode,
    Publication,
    Space,
    check_episode,
    whole,
)
from adabc_lightning.env.observations import Parts, as_numbers, choose, is_parts
from adabc_lightning.errors import UserError
from adabc_lightning.run.lock import FolderLock

POLL = 0.05  # seconds between two looks into the folder


class RobotPolicy:
    """The newest policy with the exploration noise of training.

    Args:
        publication: weights, σ and counters.
        space: sizes and bounds.
        generator: draws the noise.
    """

    def __init__(
        self, publication: Publication, space: Space, generator: np.random.Generator
    ) -> None:
        self.episodes, self.env_steps = publication.episodes, publication.env_steps
        self.gradient_updates = publication.gradient_updates
        self._parts, self._size = space.observation_parts, space.observation_size
        self._mean = NumpyPolicy(publication.policy, space.action_low, space.action_high)
        self._low, self._high = inward(space.action_low, space.action_high)
        policy, self._sigma = publication.policy, None
        if policy.head is None:
            assert policy.std is not None
            self._sigma = policy.std * (self._high - self._low) / 2
        self._generator = generator

    def __call__(self, observation: Any, noise: bool = True) -> np.ndarray:
        """``clip(π(s) + N(0, σ), low, high)``; a squashed Gaussian's noise is inside its tanh.

        Args:
            observation: ``[O]``, or a mapping from its parts.
            noise: False for π(s) alone.
        Returns: float32 ``[A]``, action units.
        Raises: UserError: another shape, other parts, or no finite numbers in float32; what the
            robot does then is for its own process to say.
        """
        whole_O = whole(observation, self._parts, "the robot")
        row = as_numbers(whole_O, self._size, batches=False)[None]
        if noise and self._sigma is None:
            action = self._mean.sample(row, self._generator.standard_normal(self._low.shape))[0]
        else:
            action = self._mean(row)[0].astype(np.float64)
            if noise:
                action += self._sigma * self._generator.standard_normal(action.shape)
        return np.clip(action, self._low, self._high).astype(np.float32)


class Robot:
    """The acting side of an exchange folder; one process at a time.

    Args:
        folder: of the exchange; made if it is not there. Episodes in it are kept, and count.
        observation_size: O; or the size of each part of an observation by its name, whose order
            is that of :mod:`adabc_lightning.env.observations` and not the mapping's.
        action_low, action_high: bounds of the actions ``[A]``, action units.
        max_episode_steps: time limit in steps, None for none; who acts has to keep to it.
        seed: of the exploration noise.
    Raises: UserError: the folder is of another task, or in use, or cannot be written, or an
        episode in it is missing.
    """

    def __init__(
        self,
        folder: Path | str,
        observation_size: int | Mapping[str, int],
        action_low: Sequence[float],
        action_high: Sequence[float],
        max_episode_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        low, high = (tuple(map(float, np.ravel(bound))) for bound in (action_low, action_high))
        parts: Parts | None = None
        if isinstance(observation_size, Mapping):
            sizes = observation_size
            parts = tuple((name, sizes[name]) for name in choose(sizes, sizes, None, "Robot"))
            if not is_parts(parts):
                raise UserError(f"Robot: sizes of parts must be 1 or more, but are {dict(sizes)}")
            observation_size = sum(size for _, size in parts)
        self.space = Space(int(observation_size), low, high, max_episode_steps, parts)
        self.exchange, self.seed = Exchange(folder), seed
        self._lock = FolderLock("a process that acts", "folder")
        self._lock.take(self.exchange.episodes_folder)
        try:
            self.exchange.write_space(self.space)
            self.exchange.check_whole()
        except BaseException:
            self.close()
            raise
        self.episodes = self.exchange.episode_count()
        """Episodes told so far, by this process and earlier ones."""

    def ask(self, lag: int = 0, timeout: float | None = None) -> RobotPolicy | None:
        """Waits for the policy that has learnt from all episodes told but the ``lag`` newest.

        Args:
            lag: 0 for the order of Algorithm 1; with 1 or more the robot goes on acting while
                the trainer learns, with a policy that is a little older.
            timeout: seconds to wait, None for ever.
        Returns: the newest policy, or None when training is over.
        Raises: TimeoutError: there is none yet. UserError: the file is damaged, or the policy has
            learnt from episodes that are not in the folder.
        """
        start = time.monotonic()
        while True:
            publication = self.exchange.read_policy()
            if publication is not None and publication.finished:
                return None
            if publication is not None and publication.episodes > self.episodes:
                raise UserError(
                    f"the policy in {self.exchange.folder} has learnt from {publication.episodes} "
                    f"episodes, and {self.episodes} are there; put the others back, or choose a "
                    "new folder and start a new run"
                )
            if publication is not None and self.episodes - publication.episodes <= lag:
                generator = np.random.default_rng([self.seed, self.episodes])
                return RobotPolicy(publication, self.space, generator)
            if timeout is not None and time.monotonic() - start > timeout:
                raise TimeoutError(
                    f"no policy in {self.exchange.policy_folder} that has learnt from "
                    f"{self.episodes - lag} episodes, after {timeout:g} seconds"
                )
            time.sleep(POLL)

    def tell(self, observations: Any, actions: Any, rewards: Any, terminated: bool) -> None:
        """Hands a finished episode to the trainer.

        Args:
            observations: ``[T + 1, O]``, the last one included; where they have parts also a
                mapping from them to ``[T + 1, N]``, or a list of mappings.
            actions: ``[T, A]``, as they were carried out.
            rewards: ``[T]``.
            terminated: whether the last observation is a true terminal (the task failed or is
                done); False where a time limit or a person ended the episode.
        Raises: UserError: shapes, numbers that are not finite, actions outside the bounds; nothing
            is written then.
        """
        told = LoggedEpisode(observations, actions, rewards, terminated)
        episode = check_episode(told, self.space, f"episode {self.episodes}")
        limit = self.space.max_episode_steps
        if limit is not None and len(episode.rewards) > limit:
            raise UserError(
                f"episode {self.episodes} has {len(episode.rewards)} steps, max_episode_steps is "
                f"{limit}"
            )
        self.exchange.write_episode(self.episodes, episode, self.space)
        self.episodes += 1

    def close(self) -> None:
        """Lets another process act."""
        self._lock.release()

    def __enter__(self) -> "Robot":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
