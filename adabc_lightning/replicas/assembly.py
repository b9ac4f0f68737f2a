"""What one ``Trainer.fit`` takes to train R agents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning import Callback
from torch import Tensor

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError
from adabc_lightning.replicas.callback import ReplicasCallback
from adabc_lightning.replicas.data import ReplicasData
from adabc_lightning.replicas.group import Group
from adabc_lightning.replicas.module import ReplicasModule
from adabc_lightning.replicas.replica import Replica


class Replicas:
    """The module, the data module and the callback with which one ``Trainer.fit`` trains R agents.

    They go where those of a single run go; ``Checkpointing`` beside the callback saves all of
    them in one file to go on from. Each replica has a folder ``replica_0``, ``replica_1``, … in
    ``default_root_dir`` that is like one of a single run.

    Args:
        parts: module, data module and callbacks of each single run, of the same configuration but
            for the seed.
    Raises: UserError: fewer than one, two of one seed, of different networks or methods, or a log
        for an environment.
    """

    def __init__(
        self, parts: Sequence[tuple[OffToOnModule, ReplayDataModule, Sequence[Callback]]]
    ) -> None:
        if not parts:
            raise UserError("Replicas needs one or more of them")
        seeds = [(module.seed, data.seed) for module, data, _ in parts]
        if twice := next((pair for pair in seeds if seeds.count(pair) > 1), None):
            raise UserError(
                f"two replicas have the seeds {twice[0]} (module) and {twice[1]} (data module) and "
                "would be the same run twice; give each of them a seed of its own"
            )
        for module, _, _ in parts[1:]:
            _check_alike(parts[0][0], module)
        group = Group([Replica(index, *part) for index, part in enumerate(parts)])
        self.replicas = group.replicas
        first = self.replicas[0].datamodule
        if first.log is not None:
            raise UserError(
                f"data.env_id is {first.env_id!r}, a log, which one agent acts for; set "
                "model.replicas to 1"
            )
        for other in self.replicas[1:]:
            other.datamodule.shares = first
        self.module = ReplicasModule(group)
        self.data = ReplicasData(group)
        self.callback = ReplicasCallback(group)


def _check_alike(first: OffToOnModule, other: OffToOnModule) -> None:
    """Raises: UserError: their updates cannot be made in one."""
    had, has = _made_of(first), _made_of(other)
    for name in sorted(had.keys() | has.keys()):
        one, two = had.get(name), has.get(name)
        if not isinstance(one, Tensor | np.ndarray) and one != two:
            raise UserError(
                f"{name} is {one!s:.100} in the replica of seed {first.seed} and {two!s:.100} in "
                f"that of seed {other.seed}; make all of them from one configuration"
            )


def _made_of(module: OffToOnModule) -> dict[str, Any]:
    """What its updates depend on, by name."""
    return {
        "model.method": type(module.method).__name__,
        **{f"model.method.{name}": value for name, value in vars(module.method).items()},
        **{f"model.{name}": value for name, value in vars(module.shape).items()},
        **{f"model.{name}": value for name, value in module.constants.items()},
        "model.policy_delay": module.policy_delay,
    }
