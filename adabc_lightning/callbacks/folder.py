"""Makes a run's folder, its ``config.yaml`` and its loggers; ends the loggers."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from yaml import YAMLError

from adabc_lightning.callbacks.evaluation import is_cut
from adabc_lightning.data.artifacts import dataset_card, log_artifacts
from adabc_lightning.data.hooks import RunCallback
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import UserError, one_line, warn
from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.folder import clear, refuse_a_second_run
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.loggers import Logging, TensorBoard, finish_loggers, make_loggers
from adabc_lightning.run.nested import changes
from adabc_lightning.run.threads import Threads
from adabc_lightning.run.yaml_core import load_yaml


class ReplicaFolder(Callback):
    """Gives a replica's folder the ``config.yaml`` of a single run with its seed.

    Args:
        config: the resolved config, YAML.
        resumes: whether the folder's own run goes on.
    """

    def __init__(self, config: str, resumes: bool) -> None:
        self.config, self.resumes = config, resumes

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After :class:`RunFolder`, which holds the lock of all."""
        folder = Path(trainer.default_root_dir)
        if self.resumes and folder.is_dir():
            clear(folder, anew=trainer.ckpt_path is None)
        replace_text(folder / "config.yaml", self.config)


class RunFolder(RunCallback):
    """Makes the folder, ``config.yaml`` and the loggers once nothing can be wrong any more.

    Lightning would start the loggers before the dataset is read, and leave their files behind
    when it turns out to be broken.

    Args:
        config: the resolved config, YAML.
        logging: which loggers to start.
        lock: of the folder; whoever made it releases it.
        resumes: whether the folder's own run goes on.
        threads: of the CPU and why so many; None where nobody has chosen them.
    """

    locks_folder = True

    def __init__(
        self,
        config: str,
        logging: Logging,
        lock: FolderLock,
        resumes: bool,
        threads: Threads | None = None,
    ) -> None:
        self.config, self.logging = config, logging
        self.lock, self.resumes, self.threads = lock, resumes, threads
        self._card: dict[str, Any] | None = None
        self.begun = False  # whether all that a checkpoint holds was taken

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Only rank zero writes.

        Raises: UserError: another run is at work in the folder, or was in the meantime.
        """
        self.begun = True
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        self.lock.take(folder)
        if self.resumes:
            self._say_what_changes(trainer, pl_module, folder)
            clear(folder, anew=trainer.ckpt_path is None)
        else:
            refuse_a_second_run(folder)
        replace_text(folder / "config.yaml", self.config)
        data = data_of(trainer)
        rows = "transitions" if not data.env_steps else "kept and collected transitions"
        if data.env_steps and data.ranks.count > 1:
            rows += " of each device"
        times = "" if data.ranks.count == 1 else f" × {data.ranks.count}"
        line = (
            f"{data.dataset_name or 'no dataset'} ({data.replay.total:,} {rows}) → "
            f"{data.env_id}, on {pl_module.device}{times}"
            f"{self._threads(pl_module)}; {folder}"
        )
        print(one_line(line), file=sys.stderr)
        step = pl_module.gradient_updates + data.env_steps if self.resumes else None
        loggers = make_loggers(self.logging, folder, step)
        for logger in loggers:
            if step and isinstance(logger, TensorBoard):  # has them at step 0
                continue
            with suppress(Exception):  # a run never fails for its logger
                logger.log_hyperparams(load_yaml(self.config))
        trainer.loggers = [*trainer.loggers, *loggers]
        if self.logging.wandb_artifacts and loggers and data.dataset is not None:
            try:
                self._card = dataset_card(data.dataset)  # the hand-over drops the dataset
            except Exception as error:  # a run never fails for its logger
                warn(f"Weights & Biases has no card of the dataset: {error}")

    def _say_what_changes(self, trainer: Trainer, agent: Any, folder: Path) -> None:
        """Raises: UserError: the run is finished, so that a change would be told of it wrongly."""
        other = ", ".join(changed(folder / "config.yaml", self.config))
        if _finished(trainer, agent):
            if other:
                raise UserError(
                    f"the run in {folder} is finished, and nothing is left to do with {other}; "
                    "more steps are schedule.online_env_steps, another run another folder"
                )
            warn(f"the run in {folder} is finished, there is nothing to do")
        elif other:
            warn(f"the run in {folder} goes on with {other}")

    def _threads(self, pl_module: LightningModule) -> str:
        """What is said of them; where several processes share the cores, Lightning has shared."""
        if self.threads is None or pl_module.device.type != "cpu":
            return ""
        count = torch.get_num_threads()
        same = count == self.threads.count
        return f", {self.threads if same else Threads(count, 'its share')}"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the loggers write what they still hold."""
        if self.logging.wandb_artifacts and trainer.is_global_zero:
            try:
                log_artifacts(trainer.loggers, Path(trainer.default_root_dir), self._card)
            except Exception as error:  # a run never fails for its logger
                warn(f"Weights & Biases has no artifacts of this run: {error}")
        with suppress(Exception):
            finish_loggers(trainer.loggers)


# What says where a run is and what it says, not how it learns.
_ASIDE = ("ckpt_path", "inherit", "logging.", "trainer.default_root_dir", "trainer.enable_progress")


def changed(path: Path, config: str) -> list[str]:
    """What a config has otherwise than the file of the run that goes on.

    Returns: none where there is no such file, or none that can be read.
    """
    try:
        before = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return []
    found = changes(before, load_yaml(config)) if isinstance(before, dict) else []
    return [each for each in found if not each.startswith(_ASIDE)]


def _finished(trainer: Trainer, agent: Any) -> bool:
    """But for an evaluation that was cut, which is made before anything else."""
    data = data_of(trainer)
    finished = data.schedule.finished(agent.gradient_updates, data.env_steps)
    return finished and not is_cut(trainer)
