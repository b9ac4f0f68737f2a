"""What lies in a job's folder: how far it is, whose it is, and what its ``fit`` needs there."""

import json
import shutil
from pathlib import Path
from typing import IO

from adabc_lightning.commands.experiment.plan import Job, checkpoint
from adabc_lightning.commands.experiment.progress import say
from adabc_lightning.commands.experiment.resolved import differences, strangeness
from adabc_lightning.commands.experiment.store import MARK
from adabc_lightning.errors import UserError
from adabc_lightning.run.atomic import no_link, replace_text
from adabc_lightning.run.checkpoint_files import newest
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.moved import translated
from adabc_lightning.run.record import RECORD, load_json


def finished(job: Job) -> bool:
    """Whether nothing is left to do."""
    done = all(load_json(folder / "summary.json").get("finished", False) for folder in job.records)
    needed = (checkpoint(job), job.folder / MARK)  # here, or in the run store
    return done and (job.record["kind"] == "run" or any(p.is_file() for p in needed))


def unfinished(jobs: list[Job]) -> list[Job]:
    """What is left: runs, and the pre-trainings that these still need."""
    runs = [job for job in jobs if job.record["kind"] == "run" and not finished(job)]
    needed = {needs.folder for job in runs if (needs := waits_for(job)) is not None}
    left = needed | {job.folder for job in runs}
    return [job for job in jobs if job.folder in left and not finished(job)]


def waits_for(job: Job) -> Job | None:
    """The pre-training without which a job cannot start; one that has saved something can."""
    return None if newest(job.folder) else job.needs


def command_line(job: Job) -> list[str]:
    """The ``fit`` that starts a job, or goes on with it where it has saved something."""
    if newest(job.folder):
        last = ["--trainer.default_root_dir", str(job.folder), "--ckpt_path", "last"]
        return ["fit", *last]
    return ["fit", *job.words]


def check(jobs: list[Job]) -> None:
    """Whether each folder is empty or holds what is planned for it, by whomever it was run.

    Raises: UserError: a folder holds something else, or a damaged file.
    """
    for job in jobs:
        record = translated(load_json(job.folder / RECORD))
        if record and record != job.record:
            old, new = record.get("settings", {}), job.record["settings"]
            keys = [k for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
            what = f"with other {', '.join(keys[:3])}" if keys else "of another experiment"
            raise UserError(f"{job.folder} holds a run {what}; choose another --out")
        if not (job.folder / "config.yaml").is_file():
            continue
        if record and (keys := differences(job)):
            what = f"with other {', '.join(keys[:3])} than planned"
            raise UserError(f"{job.folder} holds a run {what}; remove it, or choose another --out")
        if not record and (keys := strangeness(job)):
            what = f"of somebody else's, with other {', '.join(keys[:3])}"
            raise UserError(f"{job.folder} holds a run {what}; choose another --out")


def adopt(jobs: list[Job]) -> None:
    """Takes over, after :func:`check`, what was run by hand with a command of ``--dry-run``."""
    for job in jobs:
        if (job.folder / "config.yaml").is_file() and not load_json(job.folder / RECORD):
            _record(job)
            say(f"taken over: {job.label}")


def prepare(job: Job, patience: float = 0.0) -> list[str]:
    """Makes a job's folder ready for its ``fit``.

    Args:
        job: one of those that :func:`unfinished` returns.
        patience: seconds to wait for a process that still has the folder.
    Returns: the command line: see :func:`command_line`.
    Raises: UserError: another process is at work in it.
    """
    with FolderLock("a run", "--out") as lock:
        lock.take(job.folder, patience)
        words = command_line(job)
        if not newest(job.folder):
            for folder in {job.folder, *job.records}:
                _clear(folder)
        _record(job)
    return words


def _clear(folder: Path) -> None:
    """Removes what a process left that was killed before it saved anything."""
    if load_json(folder / RECORD):
        for name in ("config.yaml", "metrics.csv", "summary.json"):
            (folder / name).unlink(missing_ok=True)
        for name in ("checkpoints", "tensorboard", "wandb"):
            shutil.rmtree(folder / name, ignore_errors=True)


def _record(job: Job) -> None:
    for folder, record in {**job.records, job.folder: job.record}.items():
        replace_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def log_path(job: Job) -> Path:
    """Where a job's output goes: beside its folder, which must be empty at the start."""
    return job.folder.with_name(f"{job.folder.name}.log")


def open_log(job: Job) -> IO[str]:
    """To add to it."""
    return open(log_path(job), "a", encoding="utf-8", opener=no_link)


def write_log(job: Job, line: str) -> None:
    """Adds a line to what a job said."""
    with open_log(job) as log:
        log.write(f"{line}\n")
