"""Runs the jobs of an experiment on an engine: what can start, what has ended, what failed."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from adabc_lightning.commands.experiment.folders import (
    adopt,
    check,
    finished,
    log_path,
    unfinished,
    waits_for,
    write_log,
)
from adabc_lightning.commands.experiment.plan import Job
from adabc_lightning.commands.experiment.progress import say
from adabc_lightning.commands.experiment.resolved import differences
from adabc_lightning.commands.results import write_order, write_results
from adabc_lightning.errors import UserError
from adabc_lightning.run.lock import FolderLock
from adabc_lightning.run.record import load_json

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
POLL_SECONDS = 0.1


class Engine(Protocol):
    """Where jobs run. A context: what it started ends when it is left."""

    @property
    def room(self) -> bool:
        """Whether one more can be started."""

    def start(self, job: Job) -> None:
        """Starts a job, or goes on with it where it has saved something.

        Raises: UserError: another process is at work in its folder.
        """

    def ended(self) -> list[tuple[Job, bool]]:
        """The jobs that have ended since the last call, and whether they had no error."""

    @property
    def busy(self) -> bool:
        """Whether a job has been started that has not ended."""

    def stop(self) -> None:
        """Asks what runs to save and end; a second time, to end."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def run_all(
    jobs: list[Job],
    chosen: list[Job],
    out: Path,
    engine: Callable[[FolderLock | None], Engine],
    order: tuple[list[str], list[str]],
    *,
    alone: bool = True,
) -> None:
    """Runs what is not finished and prints a line per job that ends.

    Args:
        jobs: of the whole experiment, in order; what a job needs stands before it.
        chosen: those of them that may be run.
        out: folder of all runs.
        engine: makes the engine; it is given the lock of ``out``, if there is one.
        order: names of tasks and of variants as a report shall show them.
        alone: whether ``out`` is locked: one experiment at a time works in it.

    Raises:
        UserError: the folder is in use or holds something else.
        SystemExit: 1 when a job failed, 128 + number after a signal.
    """
    check(chosen)
    with FolderLock("an experiment", "--out") as lock:
        if alone:
            lock.take(out)
        adopt(chosen)
        _in_turn(out, alone, partial(write_order, out, *order))
        with engine(lock if alone else None) as running:
            folders = {job.folder for job in chosen}
            left = [job for job in unfinished(jobs) if job.folder in folders]
            _Runner(left, out, running, alone).run()


class _Runner:
    """The loop over jobs: what waits, what failed."""

    def __init__(self, jobs: list[Job], out: Path, engine: Engine, alone: bool) -> None:
        self.out, self.engine, self.alone = out, engine, alone
        self.waiting = list(jobs)
        self.total, self.count = len(jobs), 0
        self.folders = {job.folder for job in jobs}
        self.made: set[Path] = set()  # by this process
        self.started: dict[Path, float] = {}
        self.failed: list[Job] = []
        self.signals: list[int] = []

    def run(self) -> None:
        """Until nothing is left or a signal came."""
        old = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in old.items():
            if handler != signal.SIG_IGN:  # nohup's choice stays
                signal.signal(number, lambda number, frame: self.signals.append(number))
        passed_on = 0
        try:
            while self.engine.busy or (self.waiting and not self.signals):
                self._start_what_can()
                time.sleep(POLL_SECONDS)
                while passed_on < len(self.signals):
                    self.engine.stop()
                    passed_on += 1
                self._collect()
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
        self._gather()
        if self.signals:
            say("stopped; the same command goes on")
            raise SystemExit(128 + self.signals[-1])
        if self.failed:
            for job in self.failed:
                cause = job.needs if job.needs and job.needs in self.failed else job
                log = log_path(cause)
                say(f"failed: {job.label}{f', see {log}' if log.is_file() else ''}")
            raise SystemExit(1)
        if not self.total:
            table = f"; {self.out / 'results.csv'} has a row per run" if self.alone else ""
            say(f"nothing is left to run{table}")

    def _start_what_can(self) -> None:
        for job in list(self.waiting):
            if not self.engine.room or self.signals:
                return
            if job.needs in self.failed:
                self.waiting.remove(job)
                self._fail(job, "not run: its pre-training failed")
            elif self._can_start(job):
                self.waiting.remove(job)
                self.started[job.folder] = time.monotonic()
                try:
                    self.engine.start(job)
                except UserError as error:
                    self._fail(job, f"failed: {error}")
            elif job.needs and job.needs.folder not in self.folders:  # nobody here makes it
                self.waiting.remove(job)
                self._fail(job, "not run: its pre-training is not finished (--only pretrainings)")

    def _can_start(self, job: Job) -> bool:
        """Of a pre-training that is made here no file is read: this is asked all the time."""
        if job.needs is not None and job.needs.folder in self.folders:
            return job.needs.folder in self.made
        needs = waits_for(job)
        return needs is None or finished(needs)

    def _collect(self) -> None:
        for job, well in self.engine.ended():
            minutes = (time.monotonic() - self.started[job.folder]) / 60
            well = well or (bool(self.signals) and finished(job))  # signalled after its last step
            if well and finished(job) and (keys := differences(job)):
                said = f"ran with other {', '.join(keys)} than planned: a config has changed since"
                self._fail(job, f"failed: {said}")
                write_log(job, f"error: {said}")
            elif well and finished(job):
                self.made.add(job.folder)
                if job.record["kind"] == "run":
                    self._gather()
                self._report(job, f"{_scores(job)}{minutes:.1f} min")
            elif self.signals:
                say(f"stopped: {job.label}")
            else:
                self._fail(job, f"failed after {minutes:.1f} min, see {log_path(job)}")

    def _gather(self) -> None:
        _in_turn(self.out, self.alone, partial(write_results, self.out))

    def _fail(self, job: Job, text: str) -> None:
        self._report(job, text)
        self.failed.append(job)

    def _report(self, job: Job, text: str) -> None:
        self.count += 1
        say(f"{self.count}/{self.total} {job.label}: {text}")


def _in_turn(out: Path, alone: bool, write: Callable[[], None]) -> None:
    """Writes a file of all runs; of many processes in one folder, one at a time."""
    if alone:
        write()
        return
    with FolderLock("an experiment", "--out") as lock, suppress(UserError):
        lock.take(out, patience=10.0)  # a whole experiment at work there writes it, too
        write()


def _scores(job: Job) -> str:
    """Of several seeds the means."""
    summaries = [load_json(folder / "summary.json").get("score", {}) for folder in job.records]
    names = {"pretrained": "pretrained", "final": "final", "best": "best"}
    if job.record["kind"] == "pretraining":
        names = {"score": "pretrained"}
    shown = {shown: [scores.get(name) for scores in summaries] for shown, name in names.items()}
    return "".join(
        f"{name} {sum(values) / len(values):.1f}, "
        for name, values in shown.items()
        if None not in values
    )
