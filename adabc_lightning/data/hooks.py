"""What a callback may do beside Lightning's hooks; the data module asks who does."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.offline import OfflineDataset


@runtime_checkable
class HandOver(Protocol):
    """A callback that acts between the last offline update and the first environment step."""

    def on_hand_over(self, data: Any, agent: OffToOnModule) -> None:
        """Called once, in the order of the trainer's callbacks; first each :class:`RowChoice`.

        They choose the rows, and what the others make of them comes after.

        Args:
            data: the :class:`~adabc_lightning.data.module.ReplayDataModule`.
            agent: the module being trained.
        """


@runtime_checkable
class RowChoice(Protocol):
    """A callback that chooses which offline rows are kept; it comes first at the hand-over."""

    def select(self, dataset: OfflineDataset, generator: torch.Generator) -> Tensor:
        """Indices of the rows to keep, ``[K]``."""


@runtime_checkable
class Idle(Protocol):
    """A callback that acts while a run waits for a log, and within evaluations."""

    def on_idle(self, data: Any, agent: OffToOnModule) -> None:
        """Called some times a second, or after an evaluation's step; may raise to end the run."""
