"""What a worker of a Ray cluster does: one job, from its last checkpoint where there is one."""

import csv
import io
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from adabc_lightning.commands.experiment.folders import open_log, prepare, write_log
from adabc_lightning.commands.experiment.plan import Job, checkpoint
from adabc_lightning.commands.experiment.store import Store, is_small
from adabc_lightning.errors import UserError, first_cause

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60.0  # with a lost worker's process that has the folder, and with a store
CUT_OFF_SECONDS = 60.0  # without the board: the job may be at work elsewhere by now
TOKEN = ".ray"  # in the folder of all runs: by it a worker knows that it sees the same one
PLANNED = "planned.yaml"
SHOWN = ("phase", "gradient_updates", "env_steps", "eval/score", "control/alpha")
TAIL = 1 << 14  # bytes


@dataclass(frozen=True)
class Assignment:
    """A job on its way to a worker.

    Args:
        job: as planned.
        out: folder of all runs.
        token: what the file :data:`TOKEN` in it says.
        working_folder: where the command runs; relative paths are relative to it.
        environment: variables for the process, over those of the worker.
        store: URL of the run store; None where the workers see ``out``.
        config: with a store, what the job's configs amount to, YAML.
    """

    job: Job
    out: Path
    token: str
    working_folder: Path
    environment: dict[str, str]
    store: str | None
    config: str


class Board:
    """An actor beside the command: what the workers say, and whether they shall stop."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.stops = 0

    def begin(self, label: str, node: str) -> int:
        """An attempt at a job begins; returns how often its end has been asked for."""
        attempt = self.rows.get(label, {}).get("attempt", 0) + 1
        self.rows[label] = {"node": node, "attempt": attempt}
        return self.stops

    def tell(self, label: str, row: dict[str, str]) -> int:
        """The newest row of a begun job's ``metrics.csv``; returns as :meth:`begin`."""
        self.rows[label]["metrics"] = row
        return self.stops

    def read(self) -> dict[str, dict[str, Any]]:
        """What is known of each job that has begun."""
        return self.rows

    def stop(self) -> None:
        """Asks all workers to save and end; a second time, to end."""
        self.stops += 1


def run(assignment: Assignment, board: Any) -> str | None:
    """Runs a job to its end, or until the board asks to stop.

    Args:
        assignment: the job.
        board: handle of a :class:`Board`.
    Returns: None when it has ended well, else what has happened.
    """
    label, node = assignment.job.label, platform.node()
    if board.begin.remote(label, node).future().result(CUT_OFF_SECONDS):
        return "stopped before it began"
    try:
        with _place(assignment) as (job, save):
            words = prepare(job, PATIENCE_SECONDS)
            with open_log(job) as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "adabc_lightning.commands.experiment.child", *words],
                    env={**os.environ, **assignment.environment},
                    stdin=subprocess.PIPE,  # see child.py
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                _attend(process, job, save, board)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            save()
            return f"fit ended with {process.returncode}" if process.returncode else None
    except Exception as error:  # of the store, of as many kinds as there are
        return f"on {node}: {first_cause(error)}"


def _attend(
    process: "subprocess.Popen[bytes]", job: Job, save: Callable[..., None], board: Any
) -> None:
    """Tells the board, saves what is new and passes on requests to stop, until the process ends.

    Raises: UserError: the board cannot be reached any more.
    """
    answer: Future[int] = Future()
    answer.set_result(0)
    asked, heard, save_after = 0, time.monotonic(), 0.0
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        if time.monotonic() > save_after:
            try:
                save(rows_alone=False)
            except Exception as error:  # of the store; at the end it must answer
                save_after = time.monotonic() + PATIENCE_SECONDS
                write_log(job, f"warning: not saved in the store yet: {first_cause(error)}")
        if answer.done():  # no ray.get, for which Ray would lend this task's cores to another one
            stops, heard = answer.result(), time.monotonic()
            for _ in range(asked, stops):
                process.send_signal(signal.SIGTERM)
            asked = stops
            answer = board.tell.remote(job.label, newest_row(job.folder / "metrics.csv")).future()
        elif time.monotonic() - heard > CUT_OFF_SECONDS:
            raise UserError("cut off from the experiment")


def newest_row(path: Path) -> dict[str, str]:
    """The newest value of each column of ``metrics.csv`` that is shown."""
    try:
        with open(path, "rb") as file:
            names = file.readline()
            first = file.tell()
            start = file.seek(max(first, path.stat().st_size - TAIL))
            tail = file.read()
    except FileNotFoundError:
        return {}
    if start > first:  # within a row
        tail = tail.partition(b"\n")[2]
    whole = names + tail[: tail.rfind(b"\n") + 1]
    rows = csv.DictReader(io.StringIO(whole.decode(errors="replace")))
    newest: dict[str, str] = {}
    for row in rows:
        newest |= {name: row[name] for name in SHOWN if row.get(name)}
    return newest


@contextmanager
def _place(assignment: Assignment) -> Iterator[tuple[Job, Callable[..., None]]]:
    """Where a job runs: the job with its paths there, and what saves it in the store.

    Raises: UserError: this machine does not see the folder of all runs.
    """
    if assignment.working_folder.is_dir():
        os.chdir(assignment.working_folder)
    if assignment.store is None:
        token = assignment.out / TOKEN
        if not token.is_file() or token.read_text(encoding="utf-8") != assignment.token:
            raise UserError(
                f"{assignment.working_folder / assignment.out} is not the folder of that name "
                "where the experiment was started; share it, or give --store"
            )
        yield assignment.job, lambda **_: None
        return
    scratch = Path(tempfile.mkdtemp(prefix="adabc-"))
    try:
        store = Store(assignment.store)
        (scratch / PLANNED).write_text(assignment.config, encoding="utf-8")
        job = _moved(assignment.job, assignment.out, scratch)
        job = replace(job, words=["--config", str(scratch / PLANNED), *job.words])
        name = assignment.job.folder.relative_to(assignment.out).as_posix()
        wanted = [f"{name}/{file}" for file in store.names(name)]
        if job.needs is not None:
            needed = job.needs.folder.relative_to(scratch).as_posix()
            kept = checkpoint(job.needs).relative_to(job.needs.folder).as_posix()
            files = [f for f in store.names(needed) if is_small(f) or f == kept]
            wanted += [f"{needed}/{file}" for file in files]
        if store.has(f"{name}.log"):
            wanted.append(f"{name}.log")
        for file in wanted:
            store.fetch(file, scratch / file)
        yield job, partial(store.push, job.folder, name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _moved(job: Job, old: Path, new: Path) -> Job:
    """A job whose folders lie elsewhere."""

    def path(text: str | Path) -> Path:
        return new / Path(text).relative_to(old)

    words = list(job.words)
    for index, word in enumerate(words[:-1]):
        if word in ("--trainer.default_root_dir", "--ckpt_path"):
            words[index + 1] = str(path(words[index + 1]))
    needs = None if job.needs is None else _moved(job.needs, old, new)
    return replace(job, folder=path(job.folder), words=words, needs=needs)
