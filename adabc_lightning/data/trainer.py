"""What callbacks and commands ask a Trainer for."""

from typing import TYPE_CHECKING

from lightning import Trainer

if TYPE_CHECKING:
    from adabc_lightning.data.module import ReplayDataModule


def data_of(trainer: Trainer) -> "ReplayDataModule":
    """The run's data; of several replicas, what stands for all."""
    return trainer.datamodule  # type: ignore[attr-defined]
