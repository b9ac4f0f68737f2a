"""LightningCLI with this project's keys, one-line errors and run folders."""

import logging
import re
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from adabc_lightning.callbacks import (
    AlphaController,
    Checkpointing,
    Downsampling,
    Evaluation,
    Metrics,
    Progress,
    Summary,
)
from adabc_lightning.callbacks.checkpointing import AtomicCheckpointIO
from adabc_lightning.data.module import ReplayDataModule
from adabc_lightning.errors import UserError, nearest
from adabc_lightning.loggers import Logging, make_loggers
from adabc_lightning.module import OffToOnModule
from adabc_lightning.schedule import Schedule


class Parser(LightningArgumentParser):
    """Raises what argparse would print over fifty lines of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        """One sentence; an unknown key gets its nearest neighbour."""
        text = " ".join(str(message).split())
        keys = sorted({a.dest for a in self._actions if a.dest not in ("help", "==SUPPRESS==")})
        unknown = re.search(
            r"(?:Key|option|Unrecognized arguments?:?|does not accept(?: nested)? key)\W+"
            r"([\w.]+)",
            text,
        )
        if unknown and unknown[1] not in keys:
            word = unknown[1].removeprefix("fit.").removeprefix("validate.")
            raise UserError(f"there is no key {word!r}; {nearest(word, keys)}")
        raise UserError(text)


class CommandLine(LightningCLI):
    """``fit`` and ``validate`` over one module, one data module and one set of callbacks."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and the Trainer arguments that are not options."""
        hidden = {"model", "datamodule", "weights_only"}
        return {
            "fit": hidden | {"train_dataloaders", "val_dataloaders"},
            "validate": hidden | {"dataloaders", "verbose"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Every callback and the schedule get keys of their own, always on."""
        parser.add_argument("--inherit", type=str | list[str] | None, default=None)
        parser.add_class_arguments(Schedule, "schedule")
        parser.add_class_arguments(Logging, "logging")
        # The order of the callbacks is the order of events after an update or an episode.
        parser.add_lightning_class_args(Downsampling, "downsampling")
        parser.add_lightning_class_args(AlphaController, "alpha")
        parser.add_lightning_class_args(Evaluation, "evaluation")
        parser.add_lightning_class_args(Metrics, "metrics")
        parser.link_arguments("schedule", "data.schedule", apply_on="instantiate")
        parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("seed_everything", "model.seed")

    @property
    def options(self) -> Namespace:
        """The parsed keys of the chosen command."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Gives the run a folder of its own unless it was told one."""
        self.options.inherit = None  # what was inherited is resolved by now
        if self.subcommand == "fit" and self.options.trainer.default_root_dir is None:
            if self.options.ckpt_path == "last":
                raise UserError(
                    "--ckpt_path last needs --trainer.default_root_dir, the folder of the run"
                )
            name = f"{self.options.data.env_id}-seed{self.options.seed_everything}"
            stamp = time.strftime("%Y%m%d-%H%M%S")
            self.options.trainer.default_root_dir = str(Path("runs", f"{name}-{stamp}"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer with this project's callbacks, checkpoint writer and loggers."""
        trainer = self.options.trainer
        extra: list[Callback] = [RunFolder(self), Summary(), Checkpointing()]
        if trainer.enable_progress_bar is not False:
            extra.append(Progress())
        self.trainer_defaults = {"callbacks": extra}
        kwargs["plugins"] = [*_as_list(self._get(self.config_init, "trainer").plugins)]
        kwargs["plugins"].append(AtomicCheckpointIO())
        return super().instantiate_trainer(**kwargs)

    def fit(
        self, model: OffToOnModule, datamodule: ReplayDataModule, ckpt_path: str | None = None
    ) -> None:
        """Runs or resumes a run and prints what became of it."""
        folder = Path(self.options.trainer.default_root_dir)
        checkpoint = _resume_from(folder, ckpt_path)
        self.trainer.fit(model, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        evaluation = next(c for c in self.trainer.callbacks if isinstance(c, Evaluation))  # type: ignore[attr-defined]
        print(_closing_line(evaluation, datamodule, folder))

    def validate(
        self, model: OffToOnModule, datamodule: ReplayDataModule, ckpt_path: str | None = None
    ) -> None:
        """Prints return and score of each episode of a checkpoint's policy."""
        if ckpt_path is None:
            raise UserError("validate needs --ckpt_path, a checkpoint of a run")
        checkpoint = read_checkpoint(Path(ckpt_path))
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"])
        evaluation = next(c for c in self.trainer.callbacks if isinstance(c, Evaluation))  # type: ignore[attr-defined]
        returns, lengths = evaluation.run(datamodule, model)
        scores = None
        if datamodule.reference is not None:
            scores = [datamodule.reference.score(value) for value in returns]
        print("episode      return   score   steps")
        for i, (value, steps) in enumerate(zip(returns, lengths, strict=True)):
            score = "      –" if scores is None else f"{scores[i]:7.2f}"
            print(f"{i:7d} {value:11.2f} {score} {steps:7d}")
        print(f"return {np.mean(returns):.2f} ± {np.std(returns):.2f}")
        if scores is not None:
            print(f"score {np.mean(scores):.2f} ± {np.std(scores):.2f}")


class RunFolder(Callback):
    """Makes the folder, ``config.yaml`` and the loggers once nothing can be wrong any more.

    Lightning would start the loggers before the dataset is read, and leave their files behind
    when it turns out to be broken.
    """

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only rank zero writes."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        parser = self.cli._parser(self.cli.subcommand)
        text = parser.dump(self.cli.options, skip_none=False)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        loggers = make_loggers(self.cli.config_init[self.cli.subcommand].logging, folder)
        for logger in loggers:
            logger.log_hyperparams(yaml.safe_load(text))
        trainer.loggers = [*trainer.loggers, *loggers]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content; nothing in the file is executed.

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
    return checkpoint


def _resume_from(folder: Path, ckpt_path: str | None) -> str | None:
    """The checkpoint to start from, or None; never on top of another run's results."""
    last = folder / "checkpoints" / "last.ckpt"
    if ckpt_path == "last":
        if not last.is_file():
            print(f"no checkpoint in {folder} yet: starting from the beginning", file=sys.stderr)
            return None
        ckpt_path = str(last)
    elif (folder / "metrics.csv").exists():
        raise UserError(
            f"{folder} already holds a run; go on with it by --ckpt_path last, or choose "
            "another --trainer.default_root_dir"
        )
    if ckpt_path is not None:
        read_checkpoint(Path(ckpt_path))
    return ckpt_path


def _closing_line(evaluation: Evaluation, data: ReplayDataModule, folder: Path) -> str:
    from adabc_lightning.callbacks.summary import outcomes

    schedule = data.schedule
    both = outcomes(evaluation.history, schedule.offline_updates, schedule.online_env_steps)
    unit = "score" if data.reference is not None else "return"
    parts = [
        f"{name} {value:.1f}"
        for name, value in both[unit].items()
        if value is not None and name != "online_mean"
    ]
    return f"{unit}: {', '.join(parts)}; {folder}"


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def run(arguments: list[str]) -> None:
    """Parses and executes a command line whose configs are expanded already.

    Raises: UserError: anything wrong with what the user gave.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
    warnings.filterwarnings("ignore", module=r"torch\.utils\._pytree")
    # The one mode in which ${model.lr} follows overrides across files and the command line.
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    CommandLine(
        OffToOnModule,
        ReplayDataModule,
        save_config_callback=None,
        seed_everything_default=0,
        parser_class=Parser,
        parser_kwargs={
            name: {
                "parser_mode": "omegaconf+",
                "default_env": False,
            }
            for name in ("fit", "validate")
        },
        trainer_defaults={"max_epochs": 1, "logger": False, "enable_model_summary": False},
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        args=arguments,
    )
