"""The callbacks of all, and their rows in one file."""

from functools import cached_property
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from adabc_lightning.callbacks import Metrics
from adabc_lightning.callbacks.progress import TRIALS
from adabc_lightning.errors import EnvironmentFailure, NotFinite
from adabc_lightning.replicas.data import Batches
from adabc_lightning.replicas.group import Group
from adabc_lightning.replicas.replica import Replica
from adabc_lightning.run.atomic import no_link, replace_text, writing

AVERAGED = ("eval/score", "eval/return")


class ReplicasCallback(Callback):
    """Calls every replica's callbacks, and gathers the rows of all in one ``metrics.csv``.

    Args:
        group: of the replicas.
    """

    def __init__(self, group: Group) -> None:
        self._group = group
        self._gathered: list[int] = []
        """Bytes of each replica's file that are in that of all."""

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
        """What a progress line shows: means of the replicas' newest evaluations, sums of counts."""
        newest = [
            callback.latest
            for replica in self._group.replicas
            for callback in replica.callbacks
            if isinstance(callback, Metrics)
        ]
        share = {name: len(newest) for name in AVERAGED} | {f"trial/{name}": 1 for name in TRIALS}
        return {
            name: sum(values[name] for values in newest) / count
            for name, count in share.items()
            if newest and all(name in values for values in newest)
        }

    def call(self, hook: str, *args: Any, **keywords: Any) -> None:
        """A hook of each replica's callbacks, with its own batch and its own exception."""
        failed = self._group.failed
        for replica, callback in self._overridden[hook]:
            own = [_own(argument, replica, failed) for argument in args]
            self._group.failed = replica
            try:
                getattr(callback, hook)(replica, replica.lightning_module, *own, **keywords)
            except (NotFinite, EnvironmentFailure) as error:
                replica.sign(error)
                raise
        self._group.failed = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The replicas' own, then the rows up to the checkpoint."""
        self.call("on_train_start")
        self._gathered = []
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
        """Adds what is new in the replicas' files, whose lines go in step, replica in front."""
        replicas = self._group.replicas
        paths = [Path(replica.default_root_dir) / "metrics.csv" for replica in replicas]
        if not all(path.is_file() for path in paths):
            return
        target = Path(trainer.default_root_dir) / "metrics.csv"
        anew = not self._gathered
        texts = []
        for path, known in zip(paths, self._gathered or [0] * len(paths), strict=True):
            with open(path) as file:
                file.seek(known)
                texts.append(file.read())
        self._gathered = [path.stat().st_size for path in paths]
        rows = zip(*(text.splitlines() for text in texts), strict=True)
        lines = [f"replica,{next(rows)[0]}"] if anew else []
        for row in rows:
            lines += [f"{index},{line}" for index, line in enumerate(row)]
        new = "".join(f"{line}\n" for line in lines)
        if anew:
            replace_text(target, new)
        else:
            with writing(target), open(target, "a", opener=no_link) as file:
                file.write(new)


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
    if isinstance(argument, Batches):
        return argument[replica.index]
    if isinstance(argument, Exception) and failed not in (None, replica):
        return RuntimeError("another replica failed")
    return argument
