"""Checkpoints at every evaluation and on a signal, written so that a kill leaves a whole file."""

import signal
import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.best import Best, has_best
from adabc_lightning.callbacks.evaluation import Evaluation, is_cut
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.data.trainer import data_of
from adabc_lightning.env.scores import saved_reference
from adabc_lightning.run.checkpoint_files import BEST, FOLDER, LAST, PRETRAINED
from adabc_lightning.run.checkpoint_io import AtomicCheckpointIO
from adabc_lightning.run.folder import words_to_go_on
from adabc_lightning.run.stopping import Stop
from adabc_lightning.run.trainer import callbacks_of, find


class Checkpointing(RunCallback, Checkpoint):
    """Saves ``last.ckpt`` at every evaluation; the one before it stays as ``previous.ckpt``.

    ``checkpoints/pretrained.ckpt`` is the state just before the hand-over, from which other
    fine-tunings can start; ``best.ckpt`` the best evaluation of the run so far, that of the
    checkpoint it starts from included; with trials, the policy promoted last: a higher evaluation
    alone may be luck. Keyed on the schedule, because Lightning's ``ModelCheckpoint`` counts
    optimiser steps. SIGTERM, SIGINT and SIGUSR1 save after the batch at hand and exit with 128 +
    their number; Lightning's own handlers would exit having saved nothing
    (:class:`~adabc_lightning.run.stopping.Stop`).

    Within an evaluation a signal ends the run after the environment's step at hand, and a resumed
    run makes that evaluation first. Several devices or replicas make the evaluation at hand first.

    Args:
        keep_policies: also keep the actor of every evaluation of fine-tuning, and that of the end
            of pre-training as 0, in ``checkpoints/policies/{env_steps:09d}.ckpt``; ``collect``
            makes datasets with them.
    """

    listens = True
    """Whether it takes the signals; one of a process does."""

    def __init__(self, keep_policies: bool = False) -> None:
        self.keep_policies = keep_policies
        self._best = Best()
        self._as_evaluated = True
        self._stop = Stop()

    def on_train_start(self, trainer: Trainer, pl_module: OffToOnModule) -> None:
        """Listens for the signals that ask for an end; has the evaluation made that one cut.

        What a run starts from is its best so far, if it was evaluated.
        """
        if self.listens:
            self._stop.listen()
        if not has_best(trainer):
            self._best.forget()
            if self._as_evaluated and self._best.improved(trainer, pl_module):
                path = Path(trainer.default_root_dir) / FOLDER / BEST
                trainer.save_checkpoint(path, weights_only=False)
        if evaluation := find(trainer, Evaluation):
            evaluation.make_up(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: OffToOnModule, checkpoint: dict[str, Any]
    ) -> None:
        """A run may go on without what deployed another policy than the actor, and without that."""
        deployed = getattr(pl_module, "deployed", "actor")  # replicas have one each
        self._as_evaluated = checkpoint.get("agent", {}).get("deployed", "actor") == deployed

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the signals back."""
        self._stop.release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Lightning tears nothing down after an error."""
        self.teardown(trainer, pl_module, "fit")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Runs after every other callback (Lightning puts ``Checkpoint`` last)."""
        data = data_of(trainer)
        updates, env_steps = pl_module.gradient_updates, data.env_steps
        folder = Path(trainer.default_root_dir) / FOLDER
        if not data.schedule.evaluation_due(updates, env_steps):
            if asked := self._asked(data):
                trainer.save_checkpoint(folder / LAST, weights_only=False)
                self._end(trainer, asked)
            if trainer.should_stop:  # and Lightning ends the run after this batch
                trainer.save_checkpoint(folder / LAST, weights_only=False)
                self._tell(trainer, "trainer.max_time or a callback")
            return
        if self.keep_policies and trainer.is_global_zero:
            _save_policy(folder / "policies" / f"{env_steps:09d}.ckpt", pl_module, data)
        # The last of them is what a run goes on from: after a kill in between the others are
        # written once more.
        names = [BEST] if self._best.improved(trainer, pl_module) else []
        if env_steps == 0 and updates == data.schedule.offline_updates:
            names.append(PRETRAINED)
        for name in (*names, LAST):
            trainer.save_checkpoint(folder / name, weights_only=False)  # all of it
        if asked := self._asked(data):
            self._end(trainer, asked)
        if trainer.should_stop and not data.schedule.finished(updates, env_steps):
            self._tell(trainer, "trainer.max_time or a callback")

    def on_save_checkpoint(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """``trainer.max_time`` is that of each start: a run that has used it up could not go on."""
        for callback in callbacks_of(trainer):
            if isinstance(callback, Timer):
                checkpoint["callbacks"].pop(callback.state_key, None)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that had nothing left to do leaves its state in its new folder, too."""
        data = data_of(trainer)
        last = Path(trainer.default_root_dir) / FOLDER / LAST
        if not any(data.ranks.gather(last.exists())):
            trainer.save_checkpoint(last, weights_only=False)

    def _asked(self, data: ReplayDataModule) -> int | None:
        """The signal that ends the run: it reaches one rank, or each at another batch."""
        return next(filter(None, data.ranks.gather(self._stop.asked)), None)

    def on_idle(self, data: ReplayDataModule, agent: OffToOnModule) -> None:
        """A signal ends a run that waits for an episode or evaluates, too."""
        if self._stop.asked is None or data.ranks.count > 1:  # which stop together, after a batch
            return
        trainer: Trainer = data.trainer  # type: ignore[assignment]
        # Before the first environment step the hand-over is half done: that from before it stays.
        if data.env_steps or is_cut(trainer):
            trainer.save_checkpoint(
                Path(trainer.default_root_dir) / FOLDER / LAST, weights_only=False
            )
        self._end(trainer, self._stop.asked)

    def _end(self, trainer: Trainer, asked: int) -> None:
        self._tell(trainer, signal.Signals(asked).name)
        data_of(trainer).ranks.close()
        # Lightning would give the signals back on the way out, before a late twin has come.
        trainer._signal_connector._original_handlers = {}
        self._stop.end(asked)

    def _tell(self, trainer: Trainer, by: str) -> None:
        if self.listens and trainer.is_global_zero:  # one of several replicas'
            folder = Path(trainer.default_root_dir)
            saved = "saved" if (folder / FOLDER / LAST).exists() else "nothing to save yet"
            print(f"stopped by {by}, {saved}; go on with {words_to_go_on(folder)}", file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        """What is the best."""
        return self._best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self._best.load_state_dict(state_dict)


def _save_policy(target: Path, agent: OffToOnModule, data: ReplayDataModule) -> None:
    """A checkpoint's entries that say what the policy is and where it comes from, no others."""
    actor = {f"actor.{name}": tensor for name, tensor in agent.policy.state_dict().items()}
    content = {
        "agent": {
            "gradient_updates": agent.gradient_updates,
            "seed": agent.seed,
            "kept": agent.deployed,  # it is the actor here
        },
        "ReplayDataModule": {
            "env_id": data.env_id,
            "max_episode_steps": data.max_episode_steps,
            "env_kwargs": data.env_kwargs,
            "observation_parts": data.spec.observation_parts,
            "reference": saved_reference(data.reference),
            "collector": {"env_steps": data.env_steps},
        },
        "state_dict": actor,
    }
    AtomicCheckpointIO().save_checkpoint(content, target)
