"""The folder of a run: where it lies, what may be written into it, what it resumes from."""

import itertools
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, LightningModule, Trainer

from adabc_lightning.errors import UserError
from adabc_lightning.loggers import Logging, finish_loggers, make_loggers


def fresh_folder(env_id: str, seed: int) -> Path:
    """``runs/ENV-seedS-TIME``, or with a number after it where that exists."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{env_id.replace('/', '-').replace(':', '-')}-seed{seed}-{stamp}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for name in names if not (folder := Path("runs", name)).exists())


def checkpoint_to_resume(folder: Path, ckpt_path: str | None) -> str | None:
    """The checkpoint a run in a folder starts from; never on top of another run's results.

    Args:
        folder: the run's folder; it need not exist.
        ckpt_path: a path, or ``"last"`` for the folder's own newest.
    Returns: an existing checkpoint; None to start from the beginning.
    Raises: UserError: the folder holds a run or cannot be written, or there is no checkpoint.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"trainer.default_root_dir is {folder}, but no folder can be made there")
    last = folder / "checkpoints" / "last.ckpt"
    if ckpt_path == "last":
        if not last.is_file():
            print(f"no checkpoint in {folder} yet: starting from the beginning", file=sys.stderr)
            return None
        ckpt_path = str(last)
    elif ckpt_path and Path(ckpt_path).resolve() == last.resolve():
        pass  # the same by its full name
    elif any((folder / name).exists() for name in ("config.yaml", "metrics.csv", "checkpoints")):
        raise UserError(
            f"{folder} already holds a run; go on with it by --ckpt_path last, or choose "
            "another --trainer.default_root_dir"
        )
    if ckpt_path is not None:
        read_checkpoint(Path(ckpt_path))
    return ckpt_path


def read_checkpoint(path: Path, *, policy_only: bool = False) -> dict[str, Any]:
    """A checkpoint's content; nothing in the file is executed.

    Args:
        path: the file.
        policy_only: whether a kept policy (``checkpoints/policies/``) will do as well.
    Raises: UserError: there is no such file, or it is no checkpoint of this package.
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each raise their own
        raise UserError(f"{path} is no readable checkpoint") from error
    if not isinstance(checkpoint, dict) or "agent" not in checkpoint:
        raise UserError(f"{path} is no checkpoint of adabc_lightning")
    if not policy_only and "optimizer_states" not in checkpoint:
        raise UserError(
            f"{path} holds a policy and nothing else, which only collect can use; give a "
            "checkpoint such as last.ckpt or best.ckpt"
        )
    return checkpoint


class RunFolder(Callback):
    """Makes the folder, ``config.yaml`` and the loggers once nothing can be wrong any more.

    Lightning would start the loggers before the dataset is read, and leave their files behind
    when it turns out to be broken.

    Args:
        config: the resolved config, YAML.
        logging: which loggers to start.
    """

    def __init__(self, config: str, logging: Logging) -> None:
        self.config, self.logging = config, logging

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only rank zero writes."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(self.config, encoding="utf-8")
        data = trainer.datamodule  # type: ignore[attr-defined]
        print(
            f"{data.dataset_name or 'no dataset'} ({len(data.replay):,} transitions) → "
            f"{data.env_id}, on {pl_module.device}; {folder}",
            file=sys.stderr,
        )
        loggers = make_loggers(self.logging, folder)
        for logger in loggers:
            with suppress(Exception):  # a run never fails for its logger
                logger.log_hyperparams(yaml.safe_load(self.config))
        trainer.loggers = [*trainer.loggers, *loggers]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets the loggers write what they still hold."""
        with suppress(Exception):
            finish_loggers(trainer.loggers)
