"""``fit``: a run, the rest of one, or the plan of one; and ``validate``, of the same parts."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from adabc_lightning.callbacks import Evaluation
from adabc_lightning.commands import preview
from adabc_lightning.commands.command_line import CommandLine
from adabc_lightning.commands.messages import closing_line, plan_text
from adabc_lightning.commands.method_keys import overlay
from adabc_lightning.commands.plan import Plan
from adabc_lightning.commands.preview import Planned, Preview, to_fetch
from adabc_lightning.commands.quiet import muted, quieten
from adabc_lightning.commands.validate import validate
from adabc_lightning.errors import UserError, printable, warn
from adabc_lightning.run.atomic import NotWritten
from adabc_lightning.run.checkpoint_files import newest, not_taken
from adabc_lightning.run.folder import how_to_go_on, words_to_go_on
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.output import lasting, outliving_the_terminal
from adabc_lightning.run.ranks import check_strategy
from adabc_lightning.run.stopping import stopping
from adabc_lightning.run.threads import Neighbours
from adabc_lightning.run.trainer import callbacks_of, find


def run(
    command: str,
    files: list[Path],
    options: list[str],
    line: str = "",
    *,
    dry: bool = False,
    neighbours: Neighbours | None = None,
) -> None:
    """Executes ``fit`` or ``validate``; arguments and errors as :class:`CommandLine`."""
    quieten()
    with FolderLock("a run", "--trainer.default_root_dir") as lock:
        command_line = CommandLine(
            command, files, options, lock, line, dry=dry, neighbours=neighbours
        )
        {"fit": fit, "validate": validate}[command](command_line)


def fit(line: CommandLine) -> None:
    """Runs or resumes a run and prints what became of it; of a dry one, its plan."""
    if line.dry:
        text = plan_text(plan(line), str(line.folder), overlay(line.files))
        print(printable(text, keep="\n"))
        return
    with lasting("stdout"), outliving_the_terminal(), stopping(partial(_account, line)):
        train(line)


def _account(line: CommandLine) -> str:
    """What to tell the user where a signal ends the process before or after training itself
    handles signals.
    """
    if not (line.folder / "config.yaml").is_file():
        return ", nothing to save yet; the same command starts anew"
    state = "nothing new to save" if newest(line.folder) else "nothing to save yet"
    return f", {state}; go on with {words_to_go_on(line.folder)}"


def train(line: CommandLine) -> None:
    """Trains, says how the run ended and writes its page."""
    try:
        start(line)
    except NotWritten as error:
        raise UserError(f"{error}; {how_to_go_on(line.folder, line.run_folder.begun)}") from error
    if line.trainer.is_global_zero:
        runs: list[Any] = [line.trainer] if line.replicas is None else line.replicas.replicas
        histories = [evaluation.history for run in runs if (evaluation := find(run, Evaluation))]
        for run, history in zip(runs, histories, strict=True):
            folder = Path(run.default_root_dir)
            print(printable(closing_line(history, line.datamodule.schedule, folder)))
        if histories[-1]:
            _report(line)


def start(line: CommandLine) -> None:
    """Lightning's fit, from the checkpoint if there is one."""
    # Said here, before Lightning starts the other processes.
    check_strategy(line.trainer)
    line.datamodule.check_devices(line.trainer.world_size)
    line.trainer.ckpt_path = line.checkpoint  # as an argument, it is known after setup only
    try:
        with muted(line.follows):
            line.trainer.fit(line.model, datamodule=line.datamodule, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except (UserError, NotWritten, Planned):
        raise
    except Exception as error:
        if not line.checkpoint_io.loaded or line.run_folder.begun:
            raise
        raise not_taken(str(line.checkpoint), error) from error


def _report(line: CommandLine) -> None:
    """The run's page; no finished run fails for it."""
    from adabc_lightning.commands.report.page import write_page

    try:
        if page := write_page(line.folder):
            print(printable(f"report: {page}"))
    except Exception as error:  # whatever it stumbles over
        warn(f"there is no page of this run: {error}")


def plan(line: CommandLine) -> Plan:
    """What :func:`fit` would do, as :func:`~adabc_lightning.commands.preview.plan` says it."""
    data = line.datamodule
    data.check_devices(line.planned_devices)
    if line.replicas is None:
        line.model.check_devices(line.planned_devices)
    callbacks = callbacks_of(line.trainer)
    if missing := to_fetch(data.dataset_name) if data.loading.download else None:
        return preview.plan(callbacks, data, line.model, missing)
    if (replicas := line.replicas) is not None:  # the first one's, before anybody acts for all
        callbacks.sort(key=lambda callback: callback is not replicas.callback)
        callbacks = replicas.replicas[0].callbacks
    planner = Preview(list(callbacks))
    callbacks.insert(0, planner)
    with suppress(Planned):
        start(line)
    count = 1 if replicas is None else len(replicas.replicas)
    return planner.plan.times(count)
