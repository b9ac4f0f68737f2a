"""R agents in one process: each with its own data, α, random numbers and files, and one loop.

A replica is a whole single run, its module, data module and callbacks, as it would be with its
seed alone; none of them knows of the others. What they share is Lightning's loop, in which they
go in step, the offline rows, and the gradient update (:mod:`adabc_lightning.stacked`).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer, __version__
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_warn
from tensordict import TensorDict
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from adabc_lightning.atomic import replace_text
from adabc_lightning.callbacks import Checkpointing, Metrics
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.engine import make_engine
from adabc_lightning.errors import EnvironmentFailure, NotFinite, UserError
from adabc_lightning.module import OffToOnModule
from adabc_lightning.stacked import Stacked, stackable

AVERAGED = ("eval/score", "eval/return")
"""What a progress line shows, as the mean over the replicas."""


class Replica:
    """One of R, and what its parts take for their trainer: the real one but for what is its own.

    Args:
        index: from 0 on.
        module, data, callbacks: of a single run with this replica's seed.
    """

    def __init__(
        self,
        index: int,
        module: OffToOnModule,
        data: ReplayDataModule,
        callbacks: Sequence[Callback],
    ) -> None:
        self.index = index
        self.lightning_module, self.datamodule = module, data
        # Lightning has the same order: whoever saves comes last.
        self.callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))
        self.optimizers: list[Optimizer] = []
        self.behind = False
        """Whether a step of its environment failed that others had made already."""
        self._trainer: Trainer | None = None
        self._loggers: list[Logger] | None = None
        self._saved_adams: list[dict[str, Any]] = []
        module.replicas = 1
        for callback in self.callbacks:
            if isinstance(callback, Checkpointing):
                callback.listens = False  # the run's own does

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_trainer"), name)

    def attach(self, trainer: Trainer) -> None:
        """Takes the place of ``trainer`` for the module and the data."""
        self._trainer = trainer
        self.default_root_dir = str(Path(trainer.default_root_dir) / f"replica_{self.index}")
        self.lightning_module.trainer = self  # type: ignore[assignment]
        self.datamodule.trainer = self  # type: ignore[assignment]

    @property
    def loggers(self) -> list[Logger]:
        """The run's, which get this replica's rows under names of their own."""
        if self._loggers is None:
            assert self._trainer is not None
            prefix = f"replica_{self.index}"
            self._loggers = [_Prefixed(logger, prefix) for logger in self._trainer.loggers]
        return self._loggers

    @loggers.setter
    def loggers(self, loggers: list[Logger]) -> None:
        self._loggers = loggers

    def content(self) -> dict[str, Any]:
        """A checkpoint of this replica alone, as a single run with its seed writes it."""
        assert self._trainer is not None
        module, data, trainer = self.lightning_module, self.datamodule, self._trainer
        content = {
            "epoch": 0,
            "global_step": 0,
            "pytorch-lightning_version": __version__,
            "state_dict": module.state_dict(),
            "loops": {"fit_loop": trainer.fit_loop.state_dict()},
            "callbacks": {
                callback.state_key: state
                for callback in self.callbacks
                if (state := callback.state_dict())
            },
            "optimizer_states": [optimizer.state_dict() for optimizer in self.optimizers],
            "lr_schedulers": [],
            type(data).__qualname__: data.state_dict(),
        }
        for callback in self.callbacks:
            callback.on_save_checkpoint(self, module, content)  # type: ignore[arg-type]
        module.on_save_checkpoint(content)
        return tree_map_only(Tensor, _apart, content)

    def restore(self, content: dict[str, Any]) -> None:
        """The inverse of :meth:`content`, in Lightning's order; see :meth:`restore_adams`."""
        module, data = self.lightning_module, self.datamodule
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
        data.load_state_dict(content[type(data).__qualname__])
        for callback in self.callbacks:
            if callback.state_key in content["callbacks"]:
                callback.load_state_dict(content["callbacks"][callback.state_key])
        self._saved_adams = content["optimizer_states"]

    def restore_adams(self) -> None:
        """What :meth:`restore` could not yet do: Lightning makes the optimisers after it."""
        for optimizer, state in zip(self.optimizers, self._saved_adams, strict=False):
            optimizer.load_state_dict(state)
        self._saved_adams = []

    def save_checkpoint(self, path: Path, weights_only: bool | None = None) -> None:
        """Saves :meth:`content`, which a single run can go on from.

        Raises: UserError: this replica stopped in a step that others had made.
        """
        assert self._trainer is not None
        if self.behind:
            raise UserError(
                "the other replicas are a step ahead; all go on from the last evaluation by "
                f"--trainer.default_root_dir {self._trainer.default_root_dir} --ckpt_path last"
            )
        self._trainer.strategy.save_checkpoint(self.content(), path)


class _Prefixed(Logger):
    """Logs for one replica into the run's logger, as ``replica_0/eval/score``."""

    def __init__(self, logger: Logger, prefix: str) -> None:
        super().__init__()
        self._logger, self._prefix = logger, prefix

    @property
    def name(self) -> str | None:
        return self._logger.name

    @property
    def version(self) -> int | str | None:
        return self._logger.version

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        counters = ("gradient_updates", "env_steps")
        named = {k if k in counters else f"{self._prefix}/{k}": v for k, v in metrics.items()}
        self._logger.log_metrics(named, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        self._logger.log_hyperparams(*args, **kwargs)


class _Batches(list[TensorDict]):
    """A batch ``[G, B]`` of each replica."""


class Replicas:
    """The module, the data module and the callback with which one ``Trainer.fit`` trains R agents.

    They go where those of a single run go; ``Checkpointing`` beside the callback saves all of
    them in one file to go on from. Each replica has a folder ``replica_0``, ``replica_1``, … in
    ``default_root_dir`` that is like one of a single run.

    Args:
        parts: module, data module and callbacks of each single run, of the same configuration but
            for the seed.
    Raises: UserError: fewer than one, or a log for an environment.
    """

    def __init__(
        self, parts: Sequence[tuple[OffToOnModule, ReplayDataModule, Sequence[Callback]]]
    ) -> None:
        if not parts:
            raise UserError("Replicas needs one or more of them")
        self.replicas = [Replica(index, *part) for index, part in enumerate(parts)]
        self.failed: Replica | None = None
        first = self.replicas[0].datamodule
        if first.log is not None:
            raise UserError(
                f"data.env_id is {first.env_id!r}, a log, which one agent acts for; set "
                "model.replicas to 1"
            )
        for other in self.replicas[1:]:
            other.datamodule.shares = first
        self.module = ReplicasModule(self)
        self.data = ReplicasData(self)
        self.callback = ReplicasCallback(self)

    def each(self) -> Iterator[Replica]:
        """One after the other; remembers which one it was that failed."""
        for replica in self.replicas:
            self.failed = replica
            yield replica
        self.failed = None


class ReplicasModule(LightningModule):
    """All agents for Lightning; their updates are one where their equations are known to stack.

    Args:
        group: of the replicas.
    """

    def __init__(self, group: Replicas) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._group = group
        self._stacked: Stacked | None = None

    @property
    def gradient_updates(self) -> int:
        """Of each replica."""
        return self._group.replicas[0].lightning_module.gradient_updates

    @property
    def alpha(self) -> Tensor:
        """Mean over the replicas, a scalar."""
        replicas = self._group.replicas
        return torch.stack([replica.lightning_module.alpha for replica in replicas]).mean()

    def setup(self, stage: str) -> None:
        """See :meth:`OffToOnModule.setup`."""
        for replica in self._group.each():
            replica.lightning_module.setup(stage)

    def configure_optimizers(self) -> list[Optimizer]:
        """Two for each replica."""
        optimizers = []
        for replica in self._group.each():
            # Not submodules: what is saved is each replica's own content.
            replica.lightning_module.to(self.device)
            replica.optimizers = replica.lightning_module.configure_optimizers()
            optimizers += replica.optimizers
        return optimizers

    def on_train_start(self) -> None:
        """Makes one update of all, on the run's engine."""
        modules = []
        for replica in self._group.each():
            replica.restore_adams()
            replica.lightning_module.on_train_start()
            modules.append(replica.lightning_module)
        first = self._group.replicas[0]
        if all(map(stackable, modules)):
            updates = first.datamodule.schedule.total_updates
            engine = make_engine(first.lightning_module.engine, self.device, updates)
            self._stacked = Stacked(modules, engine)
        else:
            rank_zero_warn(
                "the replicas are updated one after the other: of model.objective "
                f"{type(first.lightning_module.objective).__name__} and model.target_rule it is "
                "not known whether they work on a stack of agents"
            )

    def training_step(self, batch: _Batches, batch_idx: int) -> None:
        """G updates of each replica."""
        if self._stacked is not None and batch[0].batch_size[0]:
            self._stacked(batch)
            return
        for replica in self._group.each():
            replica.lightning_module.training_step(batch[replica.index], batch_idx)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint of each, whole; Lightning's own entries hold nothing of them."""
        checkpoint["replicas"] = [replica.content() for replica in self._group.each()]
        checkpoint["optimizer_states"] = []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse; the end of a single run's pre-training does for all of them, too.

        Raises: UserError: the checkpoint is of another number of replicas, or of one agent's
            fine-tuning.
        """
        replicas = self._group.replicas
        contents = checkpoint.get("replicas", [checkpoint] * len(replicas))
        if len(contents) != len(replicas):
            raise UserError(
                f"the checkpoint is of {len(contents)} replicas, model.replicas is "
                f"{len(replicas)}; they must be the same"
            )
        first = contents[0]
        if first is checkpoint and first["ReplayDataModule"]["collector"]["env_steps"]:
            raise UserError(
                "the checkpoint is of one agent's fine-tuning; set model.replicas to 1, or give "
                "one from before the hand-over (pretrained.ckpt)"
            )
        for replica, content in zip(self._group.each(), contents, strict=True):
            # Lightning reads the loops of the whole, and the module may correct them.
            replica.restore({**content, "loops": checkpoint["loops"]})
        checkpoint.update(state_dict={}, optimizer_states=[], callbacks={})


class ReplicasData(LightningDataModule):
    """All data modules for Lightning; what is not said here is the same for all, and the first's.

    Args:
        group: of the replicas.
    """

    def __init__(self, group: Replicas) -> None:
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
        self, batch: _Batches, device: torch.device, dataloader_idx: int
    ) -> _Batches:
        """Returns: the list, of batches on ``device``."""
        modules = [replica.datamodule for replica in self._group.replicas]
        return _Batches(
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

    def __init__(self, group: Replicas) -> None:
        self._group = group
        self._streams = [replica.datamodule.train_dataloader() for replica in group.replicas]

    def __len__(self) -> int:
        return len(self._streams[0])

    def __iter__(self) -> Iterator[_Batches]:
        return self

    def __next__(self) -> _Batches:
        batches = _Batches()
        for replica, stream in zip(self._group.each(), self._streams, strict=True):
            try:
                batches.append(next(stream))
            except (NotFinite, EnvironmentFailure) as error:
                _say_whose(error, replica)
                replica.behind = len(self._streams) > 1
                raise
        return batches


class ReplicasCallback(Callback):
    """Calls every replica's callbacks, and gathers the rows of all in one ``metrics.csv``.

    Args:
        group: of the replicas.
    """

    def __init__(self, group: Replicas) -> None:
        self._group = group

    @cached_property
    def _overridden(self) -> dict[str, list[tuple[Replica, Callback]]]:
        """For each hook those who do something in it."""
        return {
            hook: [
                (replica, callback)
                for replica in self._group.replicas
                for callback in replica.callbacks
                if getattr(type(callback), hook) is not getattr(Callback, hook)
            ]
            for hook in _HOOKS
        }

    @property
    def latest(self) -> dict[str, float]:
        """Mean over the replicas of what was evaluated last."""
        newest = [
            callback.latest
            for replica in self._group.replicas
            for callback in replica.callbacks
            if isinstance(callback, Metrics)
        ]
        names = [name for name in AVERAGED if newest and all(name in values for values in newest)]
        return {name: sum(values[name] for values in newest) / len(newest) for name in names}

    def call(self, hook: str, *args: Any, **keywords: Any) -> None:
        """A hook of each replica's callbacks, with its own batch and its own exception."""
        failed = self._group.failed
        for replica, callback in self._overridden[hook]:
            own = [_own(argument, replica, failed) for argument in args]
            self._group.failed = replica
            try:
                getattr(callback, hook)(replica, replica.lightning_module, *own, **keywords)
            except (NotFinite, EnvironmentFailure) as error:
                _say_whose(error, replica)
                raise
        self._group.failed = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The replicas' own, then the rows up to the checkpoint."""
        self.call("on_train_start")
        self._gather(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The replicas' own, then the rows up to an evaluation."""
        self.call("on_train_batch_end", outputs, batch, batch_idx)
        data = self._group.replicas[0].datamodule
        if data.schedule.evaluation_due(data.agent.gradient_updates, data.env_steps):
            self._gather(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The replicas' own, then all rows."""
        self.call("on_train_end")
        self._gather(trainer)

    def _gather(self, trainer: Trainer) -> None:
        """The rows of all files, whose lines go in step, with the replica in front."""
        replicas = self._group.replicas
        paths = [Path(replica.default_root_dir) / "metrics.csv" for replica in replicas]
        if not all(path.is_file() for path in paths):
            return
        headers, *rows = zip(*(path.read_text().splitlines() for path in paths), strict=True)
        lines = [f"replica,{headers[0]}"]
        for row in rows:
            lines += [f"{index},{line}" for index, line in enumerate(row)]
        replace_text(Path(trainer.default_root_dir) / "metrics.csv", "\n".join(lines) + "\n")


def _hook(name: str) -> Any:
    def call(
        self: ReplicasCallback,
        trainer: Trainer,
        pl_module: LightningModule,
        *args: Any,
        **keywords: Any,
    ) -> None:
        self.call(name, *args, **keywords)

    call.__doc__ = "The replicas' own."
    return call


_HOOKS = [
    name
    for name in vars(Callback)
    if name in ("setup", "teardown") or (name.startswith("on_") and "_checkpoint" not in name)
]
for _name_of_hook in _HOOKS:
    if _name_of_hook not in vars(ReplicasCallback):
        setattr(ReplicasCallback, _name_of_hook, _hook(_name_of_hook))


def _own(argument: Any, replica: Replica, failed: Replica | None) -> Any:
    """What a replica's callback gets for an argument of all."""
    if isinstance(argument, _Batches):
        return argument[replica.index]
    if isinstance(argument, Exception) and failed not in (None, replica):
        return RuntimeError("another replica failed")
    return argument


def _say_whose(error: NotFinite | EnvironmentFailure, replica: Replica) -> None:
    """Says whose error it is."""
    error.add(f" (replica {replica.index}, seed {replica.datamodule.seed})")


def _apart(tensor: Tensor) -> Tensor:
    """Of a view its own numbers alone: a file would hold those of all replicas."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
