"""One of several agents, whose parts take it for their trainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer, __version__
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks import Checkpointing
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import EnvironmentFailure, NotFinite, UserError
from adabc_lightning.run.folder import words_to_go_on


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
        self.lightning_module.log = _refuse_log  # type: ignore[method-assign]
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

    def signed_content(self) -> dict[str, Any]:
        """:meth:`content`, for a checkpoint of all; an error says whose it is."""
        try:
            return self.content()
        except NotFinite as error:
            self.sign(error)
            raise

    def restore(self, content: dict[str, Any]) -> None:
        """The inverse of :meth:`content`, in Lightning's order; see :meth:`restore_adams`."""
        module, data = self.lightning_module, self.datamodule
        module.on_load_checkpoint(content)
        module.load_state_dict(content["state_dict"])
        data.load_state_dict(content[type(data).__qualname__])
        for callback in self.callbacks:
            callback.on_load_checkpoint(self, module, content)  # type: ignore[arg-type]
            if callback.state_key in content["callbacks"]:
                callback.load_state_dict(content["callbacks"][callback.state_key])
        self._saved_adams = content["optimizer_states"]

    def restore_adams(self) -> None:
        """What :meth:`restore` could not yet do: Lightning makes the optimisers after it."""
        for optimizer, state in zip(self.optimizers, self._saved_adams, strict=False):
            optimizer.load_state_dict(state)
        self._saved_adams = []

    def sign(self, error: NotFinite | EnvironmentFailure) -> None:
        """Says whose error it is, unless who was nearer to it has."""
        if " (replica " not in str(error):
            error.add(f" (replica {self.index}, seed {self.datamodule.seed})")

    @property
    def run_folder(self) -> str:
        """Where the checkpoint of all replicas lies, which the run goes on from."""
        assert self._trainer is not None
        return self._trainer.default_root_dir

    @property
    def should_stop(self) -> bool:
        """Whether Lightning ends the run of all."""
        assert self._trainer is not None
        return self._trainer.should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        assert self._trainer is not None
        self._trainer.should_stop = value

    def save_checkpoint(self, path: Path, weights_only: bool | None = None) -> None:
        """Saves :meth:`content`, which a single run can go on from; outside its folder, all.

        Raises: UserError: this replica stopped in a step that others had made.
        """
        assert self._trainer is not None
        if Path(path).is_relative_to(self.default_root_dir):
            self._trainer.strategy.save_checkpoint(self.content(), path)
        elif self.behind:
            raise UserError(
                "other replicas are a step ahead; all go on from the last checkpoint by "
                f"{words_to_go_on(self.run_folder)}"
            )
        else:
            self._trainer.save_checkpoint(path, weights_only=weights_only)


def _refuse_log(name: str, *args: Any, **kwargs: Any) -> None:
    """In place of ``LightningModule.log``: Lightning's loop is that of all replicas together.

    Raises: UserError: always.
    """
    raise UserError(
        f"a callback logs {name!r} by pl_module.log, which model.replicas has no place for; give "
        "it to adabc_lightning.callbacks.metrics.record, in a column of a RunCallback"
    )


class _Prefixed(Logger):
    """Logs for one replica into the run's logger, as ``replica_0/eval/score``."""

    def __init__(self, logger: Logger, prefix: str) -> None:
        super().__init__()
        self.within, self._prefix = logger, prefix

    @property
    def name(self) -> str | None:
        return self.within.name

    @property
    def version(self) -> int | str | None:
        return self.within.version

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        counters = ("gradient_updates", "env_steps")
        named = {k if k in counters else f"{self._prefix}/{k}": v for k, v in metrics.items()}
        self.within.log_metrics(named, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        self.within.log_hyperparams(*args, **kwargs)


def _apart(tensor: Tensor) -> Tensor:
    """A view as a tensor of its own: a file would hold the whole stack, all replicas' numbers."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
