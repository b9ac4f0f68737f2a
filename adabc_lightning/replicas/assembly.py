"""What one ``Trainer.fit`` takes to train R agents."""

from collections.abc import Sequence

from lightning import Callback

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
    for what, had, has in (
        ("sizes of networks", first.shape, other.shape),
        ("a model.method", type(first.method), type(other.method)),
        ("a model.policy_delay", first.policy_delay, other.policy_delay),
        ("a model.gamma", first.gamma, other.gamma),
    ):
        if had != has:
            raise UserError(
                f"two replicas differ in more than their seeds: seed {other.seed} has {what} that "
                f"seed {first.seed} has not; make all of them from one configuration"
            )
