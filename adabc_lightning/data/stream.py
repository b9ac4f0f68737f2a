"""The training iterable: one item is one step of Algorithm 1 up to the gradient updates."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from tensordict import TensorDict
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.collector import Collector, Episode
from adabc_lightning.data.log import LogCollector
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.schedule import OFFLINE, Schedule


class Source(Protocol):
    """What the stream draws from; see :class:`~adabc_lightning.data.module.ReplayDataModule`."""

    schedule: Schedule
    ranks: Ranks
    replay: ReplayRing
    collector: Collector | LogCollector
    batches: int
    finished_episodes: list[Episode]

    @property
    def agent(self) -> OffToOnModule:
        """The module being trained."""

    @property
    def env_steps(self) -> int:
        """Of all ranks."""

    @property
    def num_batches(self) -> int:
        """Of the whole run."""

    @property
    def batch_share(self) -> int:
        """Of one rank."""

    def hand_over(self) -> None:
        """Opens the online ring."""

    def explore(self, observation: np.ndarray, noise_A: np.ndarray) -> np.ndarray:
        """The action ``[A]`` at an observation ``[O]``, of a standard normal draw ``[A]``."""

    def keep(self, row: Tensor) -> None:
        """Adds a row ``[width]`` to the ring, at once or when its episode has ended."""


class ExperienceStream:
    """Offline: a chunk of batches. Online: act → step → add, then the G batches to learn from.

    It is sized, because Lightning fetches one batch ahead from an iterable without a length:
    the policy would act one step late, and a resumed run would lose a batch. The environment
    steps inside ``__next__``, because every hook that Lightning offers runs after the batch
    was drawn.

    With K ranks an online item is a step in each one's environment, then G·K batches, of each of
    which a rank draws its K-th part.

    Args:
        data: owner of the ring, the collector and the schedule.
    """

    def __init__(self, data: Source) -> None:
        self._data = data

    def __len__(self) -> int:
        return self._data.num_batches

    def __iter__(self) -> Iterator[TensorDict]:
        # Lightning calls iter() twice before the first batch; where we are is in the counters.
        return self

    def __next__(self) -> TensorDict:
        data, schedule = self._data, self._data.schedule
        gradient_updates = data.agent.gradient_updates
        if schedule.finished(gradient_updates, data.env_steps):
            raise StopIteration
        if schedule.phase(gradient_updates, data.env_steps) == OFFLINE:
            data.batches += 1
            return data.replay.sample(schedule.next_chunk(gradient_updates), data.batch_share)
        if data.env_steps == 0:
            data.hand_over()
        row = data.collector.step(data.explore)
        # Nothing is counted or kept of a step that failed: the run is still where it was before.
        data.batches += 1
        data.keep(row)
        episodes = data.ranks.gather(data.collector.finished_episode)
        data.finished_episodes = [episode for episode in episodes if episode is not None]
        # Each rank has made a step, and G updates belong to each.
        updates = schedule.updates_after(data.env_steps) * data.ranks.count
        return data.replay.sample(updates, data.batch_share)
