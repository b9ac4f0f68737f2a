"""Weights & Biases where it can work without asking, TensorBoard by one flag."""

import os
import re
import secrets
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from adabc_lightning.errors import UserError, first_cause, one_line
from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.record import RECORD, load_json
from adabc_lightning.run.types import declared

if TYPE_CHECKING:
    import wandb

# A run waits at most so long for Weights & Biases: for its first answer, and for the upload at
# the end (what is not uploaded stays in the run's folder, for `wandb sync`).
START_SECONDS, FINISH_SECONDS = 10, 60
WANDB_ID = Path("wandb", "run-id")  # in the run's folder
_PROJECT = "adabc_lightning"


@declared("logging")
@dataclass(frozen=True)
class Logging:
    """Loggers beside ``metrics.csv``, which is always written.

    Args:
        wandb: ``"auto"`` is online when logged in, else offline; the environment variable
            ``WANDB_MODE`` wins over auto.
        wandb_project: project of the run; None for the environment variable ``WANDB_PROJECT``, or
            ``adabc_lightning``.
        wandb_name: name of the run; None for ``WANDB_NAME``, or the folder's name, of an
            experiment's run ``TASK/VARIANT/seedS`` in the group ``TASK/VARIANT``.
        wandb_artifacts: whether Weights & Biases also gets the best checkpoint and the dataset's
            card, at the end.
        tensorboard: whether to write TensorBoard files (``pip install
            adabc_lightning[tensorboard]``).
    Raises: UserError: TensorBoard is asked for and not installed.
    """

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    wandb_project: str | None = None
    wandb_name: str | None = None
    wandb_artifacts: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.tensorboard and find_spec("tensorboard") is None:
            raise UserError(
                "logging.tensorboard needs TensorBoard: pip install 'adabc_lightning[tensorboard]'"
            )


def refuse_key(config: str) -> None:
    """A key in the config would be in ``config.yaml`` and at every logger.

    Raises: UserError: the config holds the value of ``WANDB_API_KEY``.
    """
    key = os.environ.get("WANDB_API_KEY")
    if key and key in config:
        raise UserError(
            "the config holds your Weights & Biases key; take it out, the environment variable "
            "WANDB_API_KEY is enough"
        )


def make_loggers(options: Logging, folder: Path, step: int | None = None) -> list[Logger]:
    """The loggers of a run.

    Args:
        options: what the user asked for.
        folder: the run's folder, which exists; the loggers' files go below it.
        step: at which the folder's own run goes on, gradient updates plus environment steps. What
            TensorBoard's files have from there on is made again and shown once; Weights & Biases
            resumes the run.
    """
    loggers: list[Logger] = []
    mode = options.wandb
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "auto")  # type: ignore[assignment]
    if mode != "disabled":
        loggers += _wandb_logger(options, folder, mode)
    if options.tensorboard:
        loggers.append(TensorBoard(str(folder), name="tensorboard", version="", purge_step=step))
    return loggers


class TensorBoard(TensorBoardLogger):
    """Lightning's, whose end no run fails for either: what cannot be written is said in a line."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        said = threading.excepthook

        def hook(args: threading.ExceptHookArgs) -> None:
            """TensorBoard's thread keeps its error for whoever writes next."""
            if not type(args.thread).__module__.startswith("tensorboard."):
                said(args)

        threading.excepthook = hook

    def finalize(self, status: str) -> None:
        """Writes what it still holds, if it can be written."""
        try:
            super().finalize(status)
        except Exception as error:
            _say(f"TensorBoard's files are not whole: {first_cause(error)}")


def finish_loggers(loggers: Iterable[Logger]) -> None:
    """Ends the Weights & Biases run, if there is one; the others end by themselves."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def logged_in() -> bool:
    """Whether Weights & Biases has a key; asks neither the person nor the network."""
    import wandb

    wandb.setup(_settings())
    return bool(wandb.login(prompt=False, verify=False))


def _settings() -> "wandb.Settings":
    import wandb

    return wandb.Settings(silent=True, init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS)


def _wandb_logger(options: Logging, folder: Path, mode: str) -> list[Logger]:
    """One logger, online if wanted and possible, or none: a run never fails for its logger."""
    try:
        import wandb

        wandb.setup(_settings())
        if mode in ("auto", "online") and not logged_in():
            if mode == "online":
                _say("Weights & Biases goes on offline: not logged in, which `wandb login` changes")
            mode = "offline"

        run_id, project = _run_of(folder, options.wandb_project)
        name, group = _name_of(folder)

        def start(mode: str) -> Logger:
            run = wandb.init(
                id=run_id,
                resume="allow" if mode == "online" else None,  # offline, the id is enough
                project=project,
                name=options.wandb_name or os.environ.get("WANDB_NAME") or name,
                group=os.environ.get("WANDB_RUN_GROUP") or group,
                dir=folder.absolute(),  # its service may have begun in another working directory
                mode=mode,  # type: ignore[arg-type]
                settings=_settings(),
            )
            run.define_metric("*", step_metric="trainer/global_step")  # what loggers call step
            return WandbLogger(experiment=run, save_dir=folder)

        if mode in ("auto", "online"):
            try:
                return [start("online")]
            except Exception as error:  # no network, a refused key
                _say(f"Weights & Biases goes on offline: {error}")
        return [start("offline" if mode in ("auto", "online") else mode)]
    except Exception as error:
        _say(f"Weights & Biases is off: {error}")
        return []


def _name_of(folder: Path) -> tuple[str, str | None]:
    """Name and group of a run: of an experiment's, which cell of it it is.

    What all replicas share is ``seeds``, as its folder; its record is that of the first.
    """
    record = load_json(folder / RECORD)
    if not {"task", "seed"} <= record.keys():
        return folder.name, None
    kind = record.get("variant") or f"pre-training {folder.name.partition('-')[0]}"
    group = f"{record['task']}/{kind}"
    return f"{group}/{folder.name.rpartition('-')[2]}", group


def _run_of(folder: Path, project: str | None) -> tuple[str, str]:
    """Id and project of the folder's run at Weights & Biases, new ones where there are none.

    The folder is named beside them: a copy beside what it was copied from is another run.

    Args:
        folder: the run's.
        project: what the config says; None for that of the run, or the environment's.
    """
    path, here = folder / WANDB_ID, str(folder.resolve())
    known, there, before = _lines(path)
    if not re.fullmatch(r"[a-z0-9]{1,64}", known):
        known, before = secrets.token_hex(4), ""
    elif there not in ("", here):
        other = Path(there) / WANDB_ID
        if _lines(other)[0] == known and not other.samefile(path):
            _say(f"{folder} is a copy of {there}: Weights & Biases has it as a run of its own")
            known = secrets.token_hex(4)
    project = project or before or os.environ.get("WANDB_PROJECT") or _PROJECT
    if _lines(path) != (known, here, project):
        replace_text(path, f"{known}\n{here}\n{project}\n")
    return known, project


def _lines(path: Path) -> tuple[str, str, str]:
    """What a file says of a run: id, folder and project, empty where it does not."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    first, second, third = [*lines, "", "", ""][:3]
    return first, second, third


def _say(text: str) -> None:
    print(one_line(text)[:300], file=sys.stderr)
