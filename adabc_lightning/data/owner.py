"""What the hand-over, saving and restoring of a run need of its data module."""

from typing import Any, Protocol

from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.agent.spec import EnvironmentSpec
from adabc_lightning.data.collector import Collector
from adabc_lightning.data.learnt import Learnt
from adabc_lightning.data.loading import Loading
from adabc_lightning.data.log import LogCollector
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.replay import ReplayRing
from adabc_lightning.data.returns import Unfinished
from adabc_lightning.data.rewards import Reward
from adabc_lightning.data.samplers import Sampler
from adabc_lightning.data.transitions import Layout
from adabc_lightning.env.scores import Reference
from adabc_lightning.run.ranks import Ranks
from adabc_lightning.run.schedule import Schedule


class Owner(Protocol):
    """Whose ring and state they are; see :class:`~adabc_lightning.data.module.ReplayDataModule`."""

    env_id: str
    seed: int
    batches: int
    max_episode_steps: int | None
    env_kwargs: dict[str, Any]
    spec: EnvironmentSpec
    reference: Reference | None
    dataset: OfflineDataset | None
    dataset_name: str | None
    fingerprint: str | None
    kept: Tensor | None
    kept_of_each: list[dict[str, Any]]
    replay: ReplayRing
    online_sampler: Sampler | None
    replay_capacity: int | None
    offline_fraction: float | None
    unfinished: Unfinished | None
    loading: Loading
    learnt: Learnt
    online_reward: Reward | None
    collector: Collector | LogCollector
    ranks: Ranks
    schedule: Schedule
    layout: Layout

    @property
    def agent(self) -> OffToOnModule:
        """The module being trained."""

    @property
    def env_steps(self) -> int:
        """Of all ranks."""

    @property
    def is_first(self) -> bool:
        """Whether this one gives the warnings: of several ranks or replicas only the first does."""

    def check_devices(self, count: int, env_steps: int = 0) -> None:
        """Whether a run on ``count`` devices comes out even."""
