"""Fine-tuning without an environment: the episodes that another process adds to a folder."""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from adabc_lightning.data.collector import Episode, Explore
from adabc_lightning.data.rewards import Reward
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.exchange import Exchange, LoggedEpisode, digest
from adabc_lightning.env.saved import Steps
from adabc_lightning.errors import EnvironmentFailure, UserError, printable
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.saved import Count, Text, absent

POLL = 0.05  # seconds between two looks into the folder
PATIENCE = 10.0  # seconds until a line says what is waited for


class SavedLogCollector(Steps):
    """Where a run is in a log that others write."""

    episodes: Count
    step: Count
    digest: Text = absent()
    """Of the newest episode that was begun; absent in checkpoints of earlier versions."""


class LogCollector:
    """Takes the place of a :class:`~adabc_lightning.data.collector.Collector`: reads, not acts.

    Each step is the log's next one. At the end of an episode the newest policy is published, and
    the next episode is waited for.

    Args:
        exchange: the folder.
        layout: columns of a row.
        publish: writes the newest policy, given how many episodes it has learnt from.
        idle: called between two looks into the folder; may raise to end the run.
        timeout: seconds to wait for an episode, None for ever.
        reward: gives the rows their rewards; None: the log does. Returns are its own.
    Raises: UserError: another run learns from this folder.
    """

    def __init__(
        self,
        exchange: Exchange,
        layout: Layout,
        publish: Callable[[int], None],
        idle: Callable[[], None],
        timeout: float | None = None,
        reward: Reward | None = None,
    ) -> None:
        self._reward = reward
        self.exchange, self.layout, self.timeout = exchange, layout, timeout
        self.space = exchange.space()
        self._publish, self._idle = publish, idle
        self._lock = FolderLock("a training run", "data.env_id")
        self._lock.take(exchange.policy_folder)
        self.env_steps = 0
        self.finished_episode: Episode | None = None
        self.continues = False
        """Whether the newest step followed the one before it in its episode."""
        self.episodes = 0
        """Whole episodes learnt from."""
        self._episode: LoggedEpisode | None = None
        self._next = 0  # step of the episode at hand
        self._published = False
        self._digest = ""
        """Of the newest episode that was begun."""

    def step(self, explore: Explore) -> Tensor:
        """The log's next step; ``finished_episode`` is set when it is an episode's last.

        Args:
            explore: not asked; the other process acts with what was published.
        Returns: the packed row ``[width]``, ``online`` set.
        Raises: EnvironmentFailure: no episode comes within the timeout, or a damaged one, or the
            function of rewards fails; the state is then that from before this step.
        """
        if self._episode is None or not self._published:  # also after a resume
            self._publish(self.episodes)
            self._published = True
        try:
            episode = self._episode or self._wait()
            row = self._row(episode)
        except UserError as error:
            failure = EnvironmentFailure(f"{error} (environment step {self.env_steps + 1:,})")
            failure.undone = True
            raise failure from error
        if not self._next:
            self._episode, self._digest = episode, digest(episode)
        self.env_steps += 1
        self._next += 1
        self.continues = self._next > 1
        self.finished_episode = None
        if self._next == len(episode.rewards):
            total = float(episode.rewards.sum(dtype=np.float64))
            self.finished_episode = Episode(total, len(episode.rewards))
            self.episodes += 1
            self._episode, self._next = None, 0
        return row

    def _row(self, episode: LoggedEpisode) -> Tensor:
        t = self._next
        last = t + 1 == len(episode.rewards)
        packed = self.layout.pack(
            observation=episode.observations[t],
            action=episode.actions[t],
            reward=episode.rewards[t],
            next_observation=episode.observations[t + 1],
            terminated=last and episode.terminated,
        )
        if self._reward is not None:
            packed[self.layout.columns["reward"]] = self._reward.of_step(packed, self.layout)
        return packed

    def _wait(self) -> LoggedEpisode:
        path = self.exchange.episode_path(self.episodes)
        start, said = time.monotonic(), False
        while not path.exists():
            self._idle()
            waited = time.monotonic() - start
            if waited > PATIENCE and not said:
                print(printable(f"waiting for {path}"), file=sys.stderr)
                said = True
            if self.timeout is not None and waited > self.timeout:
                raise UserError(
                    f"{path} did not come within data.step_timeout {self.timeout:g} seconds"
                )
            time.sleep(POLL)
        return self.exchange.read_episode(self.episodes, self.space)

    def close(self) -> None:
        """Lets another run learn from the folder."""
        self._lock.release()

    def state_dict(self) -> dict[str, Any]:
        """Where in the log the run is; the log itself stays in its files."""
        counters = {"env_steps": self.env_steps, "episodes": self.episodes, "step": self._next}
        return {**counters, **({"digest": self._digest} if self._digest else {})}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """The inverse of :meth:`state_dict`.

        Raises: UserError: the newest episode that was begun is no longer there, or another one.
        Returns: True: the log goes on exactly where the run was.
        """
        self.env_steps, self.episodes = state["env_steps"], state["episodes"]
        self._next = state["step"]
        begun = self.episodes + (self._next > 0)
        if (there := self.exchange.episode_count()) < begun:
            raise UserError(
                f"the checkpoint has learnt from {begun} episodes, {self.exchange.folder} has "
                f"{there}; go on with the folder of the run"
            )
        if begun:
            newest = self.exchange.read_episode(begun - 1, self.space)
            self._digest = digest(newest)
            other = state.get("digest", self._digest) != self._digest
            if other or self._next >= len(newest.rewards):
                raise UserError(
                    f"{self.exchange.episode_path(begun - 1)} is another episode than the "
                    "checkpoint has learnt from; go on with the folder of the run"
                )
            self._episode = newest if self._next else None
        return True
