"""Checkpoints at every evaluation and on a signal, written so that a kill leaves a whole file."""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from adabc_lightning.callbacks.evaluation import Evaluation

if TYPE_CHECKING:
    from adabc_lightning.data.module import ReplayDataModule
    from adabc_lightning.module import OffToOnModule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes into the target folder, syncs, then renames.

    Lightning's own writes to $TMPDIR and moves: across file systems that move is a copy, and
    a kill in the middle left an empty file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Saves all or nothing."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(target) as file:
            torch.save(checkpoint, file)


class _replacing:
    """A file that takes its target's name only once it is whole and on disk."""

    def __init__(self, target: Path) -> None:
        self.target, self.temporary = target, target.with_name(f".{target.name}.tmp")

    def __enter__(self) -> Any:
        self.file = open(self.temporary, "wb")
        return self.file

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        if kind is None:
            os.replace(self.temporary, self.target)
        else:
            self.temporary.unlink(missing_ok=True)


class Checkpointing(Checkpoint):
    """Saves ``last.ckpt`` at every evaluation, and copies of it.

    ``checkpoints/pretrained.ckpt`` is the state just before the hand-over, from which other
    fine-tunings can start; ``best.ckpt`` the best evaluation so far, of fine-tuning as soon as
    there is one. Keyed on the schedule, because Lightning's ``ModelCheckpoint`` counts
    optimiser steps. SIGTERM and SIGINT save after the batch at hand and exit with 143 and 130;
    Lightning's own handlers would exit having saved nothing.

    Args:
        keep_policies: also keep the actor of every evaluation of fine-tuning, and that of the end
            of pre-training as 0, in ``checkpoints/policies/{env_steps:09d}.ckpt``; ``collect``
            makes datasets with them.
    """

    def __init__(self, keep_policies: bool = False) -> None:
        self.keep_policies = keep_policies
        self.best_return: float | None = None
        self._best_is_online = False
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens for the signals that ask for an end."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """The same where a run ends in an error: Lightning has no teardown then."""
        if isinstance(exception, Exception):
            self.teardown(trainer, pl_module, "fit")

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._signal is not None:  # asked twice: at once, with what the disk has
            raise SystemExit(128 + number)
        self._signal = number

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: "OffToOnModule",  # type: ignore[override]
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Runs after every other callback (Lightning puts ``Checkpoint`` last)."""
        data: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        updates, env_steps = pl_module.gradient_updates, data.env_steps
        folder = Path(trainer.default_root_dir) / "checkpoints"
        if not data.schedule.evaluation_due(updates, env_steps):
            if self._signal is not None:
                trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)
                self._stop(trainer)
            return
        improved = self._improved(trainer, env_steps > 0)
        trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)  # all of it
        if not trainer.is_global_zero:
            return
        if improved:
            _copy(folder / "last.ckpt", folder / "best.ckpt")
        if env_steps == 0 and updates == data.schedule.offline_updates:
            _copy(folder / "last.ckpt", folder / "pretrained.ckpt")
        if self.keep_policies:
            _save_policy(folder / "policies" / f"{env_steps:09d}.ckpt", pl_module, data)
        if self._signal is not None:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        assert self._signal is not None
        print(
            f"stopped by {signal.Signals(self._signal).name}, saved; go on with "
            f"--trainer.default_root_dir {trainer.default_root_dir} --ckpt_path last",
            file=sys.stderr,
        )
        raise SystemExit(128 + self._signal)

    def _improved(self, trainer: Trainer, online: bool) -> bool:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        history = next((c.history for c in callbacks if isinstance(c, Evaluation)), [])
        if not history:
            return False
        newest = history[-1]["eval/return"]
        first_online = online and not self._best_is_online
        if self.best_return is None or first_online or newest > self.best_return:
            self.best_return, self._best_is_online = newest, online
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        """The best return so far."""
        return {"best_return": self.best_return, "best_is_online": self._best_is_online}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.best_return = state_dict["best_return"]
        self._best_is_online = state_dict["best_is_online"]


def _save_policy(target: Path, agent: "OffToOnModule", data: "ReplayDataModule") -> None:
    """A checkpoint's entries that say what the policy is and where it comes from, no others."""
    actor = {f"actor.{name}": tensor for name, tensor in agent.actor.state_dict().items()}
    content = {
        "agent": {"gradient_updates": agent.gradient_updates, "seed": agent.seed},
        "ReplayDataModule": {
            "env_id": data.env_id,
            "max_episode_steps": data.max_episode_steps,
            "collector": {"env_steps": data.env_steps},
        },
        "state_dict": actor,
    }
    AtomicCheckpointIO().save_checkpoint(content, target)


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as original, _replacing(target) as file:
        shutil.copyfileobj(original, file)
