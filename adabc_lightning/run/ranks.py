"""The processes that train one agent together: who they are and what they tell each other.

One process is a rank. Every rank has the same weights, an environment and a share of the replay of
its own; gradients are averaged by one all-reduce per update, so Lightning's strategy is there to
start the processes and to connect them, not to wrap the module.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor

from adabc_lightning.errors import UserError
from adabc_lightning.run.watch import Watch

T = TypeVar("T")


class Ranks:
    """One process among those of its run; alone unless it was joined with others.

    Args:
        rank: global rank of the process.
        count: K, processes of the run.
        group: for what lies on the CPU; gradients go through the default group.
        watch: ends this process when another one ends.
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        group: dist.ProcessGroup | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.rank, self.count = rank, count
        self._group, self._watch = group, watch

    @classmethod
    def join(cls, trainer: Trainer) -> "Ranks":
        """Those of a trainer, whose processes are connected by now.

        Every rank must call it at the same time. Lightning's own watch over the processes that it
        started ends here: it would kill this one, too, before it had said why.

        Raises: UserError: a strategy that does not only connect processes.
        """
        if trainer.world_size == 1:
            return cls()
        check_strategy(trainer)
        strategy: Any = trainer.strategy
        strategy.configure_ddp = lambda: None  # the updates do not go through the wrapper
        launcher, children = strategy.launcher, []
        if launcher is not None:
            children = list(launcher.procs)
            launcher.procs.clear()
        rank, count = trainer.global_rank, trainer.world_size
        group = dist.new_group(backend="gloo")
        return cls(rank, count, group, Watch(rank, count, Path(trainer.default_root_dir), children))

    def share(self, total: int) -> int:
        """How many of ``total`` things, dealt out in turn, are this rank's."""
        return len(range(self.rank, total, self.count))

    def average(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Means over the ranks, the same bits on each, by one all-reduce.

        Args:
            tensors: of any shapes ``[*]``, one type, the same ones on every rank.
        Returns: new tensors of the same shapes, or, alone, the same tensors.
        """
        if self.count == 1:
            return tensors
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on each of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self._group)
        return values

    def gather_on_zero(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on rank zero; elsewhere its own alone."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.rank == 0 else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return [value] if values is None else values

    def broadcast(self, value: T) -> T:
        """Rank zero's value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def close(self) -> None:
        """At the end of a run: from here on a rank that ends alarms nobody."""
        if self._watch is not None:
            self._watch.close()

    def fail(self, exception: BaseException) -> None:
        """Before an exception ends this rank: ends all of them, and one says why."""
        if self._watch is not None:
            self._watch.fail(exception)


def check_strategy(trainer: Trainer) -> None:
    """Whether several processes of a trainer can be those of one run.

    Raises: UserError: they cannot.
    """
    strategy = trainer.strategy
    launcher = strategy.launcher
    starts = launcher is None or isinstance(launcher, _SubprocessScriptLauncher)
    if trainer.world_size > 1 and not (type(strategy) is DDPStrategy and starts):
        raise UserError(
            f"trainer.strategy makes a {type(strategy).__name__} that starts its processes by "
            f"{type(launcher).__name__.strip('_')}; on {trainer.world_size} devices set it to ddp"
        )


def follows(devices: Any, num_nodes: int) -> bool:
    """Whether the environment says that this process is not rank zero, as Lightning reads it.

    Args:
        devices, num_nodes: the trainer's options; for one device it makes no difference what the
            environment says, a job array's processes have numbers, too.
    """
    if num_nodes == 1 and devices in (1, "1"):
        return False
    names = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return any(os.environ.get(name, "0") not in ("", "0") for name in names)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hexadecimal digest of the bits of all tensors ``[*]`` and their names."""
    total = hashlib.sha256()
    for name, tensor in tensors.items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
