"""All data modules as one, and the batches of a step."""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningDataModule
from tensordict import TensorDict

from adabc_lightning.errors import EnvironmentFailure, NotFinite, UserError
from adabc_lightning.replicas.group import Group


class Batches(list[TensorDict]):
    """A batch ``[G, B]`` of each replica."""


class ReplicasData(LightningDataModule):
    """All data modules for Lightning; what is not said here is the same for all, and the first's.

    Args:
        group: of the replicas.
    """

    def __init__(self, group: Group) -> None:
        super().__init__()
        self._group = group

    def __getattr__(self, name: str) -> Any:
        if "_group" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._group.replicas[0].datamodule, name)

    def setup(self, stage: str) -> None:
        """Each in its turn; the first loads the dataset."""
        assert self.trainer is not None
        self.check_devices(self.trainer.world_size)
        for replica in self._group.each():
            replica.attach(self.trainer)
            replica.datamodule.setup(stage)

    def check_devices(self, count: int) -> None:
        """Raises: UserError: there are several devices."""
        if count > 1:
            raise UserError(
                f"{count} devices and {len(self._group.replicas)} replicas are asked for; set "
                "trainer.devices (and trainer.num_nodes) or model.replicas to 1"
            )

    def train_dataloader(self) -> "_Streams":
        """A list of the replicas' batches at a time."""
        return _Streams(self._group)

    def transfer_batch_to_device(
        self, batch: Batches, device: torch.device, dataloader_idx: int
    ) -> Batches:
        """Returns: the list, of batches on ``device``."""
        modules = [replica.datamodule for replica in self._group.replicas]
        return Batches(
            data.transfer_batch_to_device(each, device, dataloader_idx)
            for data, each in zip(modules, batch, strict=True)
        )

    def teardown(self, stage: str) -> None:
        """Closes the environments."""
        for replica in self._group.each():
            replica.datamodule.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        """The same where a run ends in an error."""
        for replica in self._group.replicas:
            replica.datamodule.on_exception(exception)


class _Streams:
    """The replicas' streams (:mod:`adabc_lightning.data.stream`), in step."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._streams = [replica.datamodule.train_dataloader() for replica in group.replicas]

    def __len__(self) -> int:
        return len(self._streams[0])

    def __iter__(self) -> Iterator[Batches]:
        return self

    def __next__(self) -> Batches:
        batches = Batches()
        for replica, stream in zip(self._group.each(), self._streams, strict=True):
            try:
                batches.append(next(stream))
            except (NotFinite, EnvironmentFailure) as error:
                replica.sign(error)
                replica.behind = replica.index > 0  # those before it have made their step
                raise
        return batches
