"""Weights & Biases where it can work without asking, TensorBoard by one flag."""

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from lightning.pytorch.loggers import Logger

from adabc_lightning.errors import UserError


@dataclass(frozen=True)
class Logging:
    """Loggers beside ``metrics.csv``, which is always written.

    Args:
        wandb: ``"auto"`` is online when logged in, else offline; the environment variable
            ``WANDB_MODE`` wins over auto.
        wandb_project: project of the run.
        wandb_name: name of the run; None for the folder's name.
        tensorboard: whether to write TensorBoard files (``pip install
            adabc_lightning[tensorboard]``).
    Raises: UserError: TensorBoard is asked for and not installed.
    """

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    wandb_project: str = "adabc_lightning"
    wandb_name: str | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UserError(
                "logging.tensorboard needs TensorBoard: pip install adabc_lightning[tensorboard]"
            )


def make_loggers(options: Logging, folder: Path) -> list[Logger]:
    """The loggers of a run.

    Args:
        options: what the user asked for.
        folder: the run's folder; the loggers' files go below it.
    """
    loggers: list[Logger] = []
    mode = _wandb_mode(options.wandb)
    if mode != "disabled":
        loggers += _wandb_logger(options, folder, mode)
    if options.tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(str(folder), name="tensorboard", version=""))
    return loggers


def _wandb_mode(wanted: str) -> str:
    """Online, offline or disabled; never a prompt."""
    explicit = os.environ.get("WANDB_MODE")
    if wanted != "auto":
        return wanted
    if explicit:
        return explicit
    import wandb

    try:
        return "online" if wandb.login(prompt=False, timeout=10) else "offline"
    except Exception:  # no key, no network, a refused key: all mean the same here
        return "offline"


def _wandb_logger(options: Logging, folder: Path, mode: str) -> list[Logger]:
    from lightning.pytorch.loggers import WandbLogger

    os.environ.setdefault("WANDB_SILENT", "true")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        logger = WandbLogger(
            name=options.wandb_name or folder.name,
            save_dir=str(folder),
            project=options.wandb_project,
            offline=mode == "offline",
        )
        _ = logger.experiment
    except Exception as error:  # a run never fails for its logger
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"Weights & Biases is off: {reason}", file=sys.stderr)
        return []
    return [logger]
