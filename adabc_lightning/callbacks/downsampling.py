"""The hand-over: which offline transitions the agent keeps for fine-tuning (paper V.C)."""

from typing import Literal

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.offline import OfflineDataset
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import UserError
from adabc_lightning.run.seeding import torch_generator
from adabc_lightning.run.types import Count, Fraction, declared


def random_rows(count: int, total: int, replacement: bool, generator: torch.Generator) -> Tensor:
    """Indices of ``count`` uniformly drawn rows out of ``total``: ``[count]``."""
    if replacement:
        return torch.randint(total, (count,), generator=generator)
    return torch.randperm(total, generator=generator)[:count]


def best_rows(count: int, episode_T: Tensor, episode_return_E: Tensor) -> Tensor:
    """Indices of the rows of whole trajectories, those of highest return first.

    The last trajectory is kept whole, so there can be up to one episode more than ``count``.

    Args:
        count: rows wanted.
        episode_T: episode of each row.
        episode_return_E: return of each episode.
    Returns: ``[≥ count]`` row indices in dataset order (all rows when there are fewer).
    """
    order_E = torch.argsort(episode_return_E, descending=True, stable=True)
    length_E = torch.bincount(episode_T, minlength=len(episode_return_E))[order_E]
    chosen_E = torch.zeros(len(episode_return_E), dtype=torch.bool)
    chosen_E[order_E[length_E.cumsum(0) - length_E < count]] = True  # those before do not suffice
    return chosen_E[episode_T].nonzero().squeeze(-1)


@declared("downsampling")
class Downsampling(RunCallback):
    """Keeps a part of the offline transitions at the hand-over.

    Args:
        keep: fraction of the transitions, 0 to 1.
        minimum: keep at least so many (all of them, once each, where there are fewer).
        method: ``"random"``, or ``"best"`` for whole trajectories of highest return.
        replacement: whether random rows are drawn with replacement, as the authors' code does.
    Raises: UserError: a value outside its range, or rows that would not fit into the ring.
    """

    chooses_rows = True

    def __init__(
        self,
        keep: Fraction = 0.05,
        minimum: Count = 50_000,
        method: Literal["random", "best"] = "random",
        replacement: bool = True,
    ) -> None:
        self.keep, self.minimum = keep, minimum
        self.method, self.replacement = method, replacement

    def count(self, total: int) -> int:
        """How many of ``total`` rows are kept."""
        return min(total, max(round(self.keep * total), self.minimum))

    def select(self, dataset: OfflineDataset, generator: torch.Generator) -> Tensor:
        """Row indices to keep ``[K]``, in the order in which they go into the ring."""
        total = len(dataset.rows)
        count = self.count(total)
        if count == total:
            return torch.arange(total)
        if self.method == "best":
            return best_rows(count, dataset.episode_T, dataset.episode_return_E)
        return random_rows(count, total, self.replacement, generator)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses a ring that is too small before anything is trained."""
        data = data_of(trainer)
        if stage != "fit" or data.dataset is None or data.replay_capacity is None:
            return
        if data.offline_fraction is not None:  # they lie beside the ring
            return
        count = len(self.select(data.dataset, torch_generator(data.seed, "hand-over")))
        if count > data.replay_capacity:
            raise UserError(
                f"downsampling keeps {count} transitions, data.replay_capacity is "
                f"{data.replay_capacity}; keep fewer or make the ring larger"
            )

    def on_hand_over(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """Tells the data module which rows stay."""
        if data.dataset is not None:
            data.kept = self.select(data.dataset, torch_generator(data.seed, "hand-over"))
