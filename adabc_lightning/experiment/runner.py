"""Runs the jobs of an experiment: several at once, resumable, each in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from adabc_lightning.atomic import replace_text
from adabc_lightning.checkpoint_files import newest
from adabc_lightning.errors import UserError
from adabc_lightning.experiment.plan import Job, checkpoint
from adabc_lightning.experiment.resolved import differences, strangeness
from adabc_lightning.experiment.results import RECORD, load_json, write_results
from adabc_lightning.lock import FolderLock

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
POLL_SECONDS = 0.1


def finished(job: Job) -> bool:
    """Whether nothing is left to do."""
    done = load_json(job.folder / "summary.json").get("finished", False)
    return bool(done) and (job.record["kind"] == "run" or checkpoint(job).is_file())


def unfinished(jobs: list[Job]) -> list[Job]:
    """What is left: runs, and the pre-trainings that these still need."""
    runs = [job for job in jobs if job.record["kind"] == "run" and not finished(job)]
    needed = {job.needs.folder for job in runs if job.needs is not None}
    left = needed | {job.folder for job in runs}
    return [job for job in jobs if job.folder in left and not finished(job)]


def command_line(job: Job) -> list[str]:
    """The ``fit`` that starts a job, or goes on with it where it has saved something."""
    if newest(job.folder):
        last = ["--trainer.default_root_dir", str(job.folder), "--ckpt_path", "last"]
        return ["fit", *last]
    return ["fit", *job.words]


def log_path(job: Job) -> Path:
    """Where a job's output goes: beside its folder, which must be empty at the start."""
    return job.folder.with_name(f"{job.folder.name}.log")


def check(jobs: list[Job]) -> None:
    """Whether each folder is empty or holds what is planned for it, by whomever it was run.

    Raises: UserError: a folder holds something else, or a damaged file.
    """
    for job in jobs:
        record = load_json(job.folder / RECORD)
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
            _say(f"taken over: {job.label}")


def _record(job: Job) -> None:
    replace_text(job.folder / RECORD, json.dumps(job.record, indent=2) + "\n")


def run_all(jobs: list[Job], out: Path, parallel: int, threads: int) -> None:
    """Runs what is not finished and prints a line per job that ends.

    Args:
        jobs: in order; what a job needs stands before it.
        out: folder of all runs; one experiment at a time works in it.
        parallel: processes at the same time.
        threads: for each of them.

    Raises:
        UserError: the folder is in use or holds something else.
        SystemExit: 1 when a job failed, 128 + number after a signal.
    """
    check(jobs)
    with FolderLock("an experiment", "--out") as lock:
        lock.take(out)
        adopt(jobs)
        _Runner(jobs, out, parallel, threads, lock.fileno()).run()


class _Runner:
    """The loop over processes: what waits, what runs, what failed."""

    def __init__(self, jobs: list[Job], out: Path, parallel: int, threads: int, lock: int) -> None:
        self.out, self.parallel, self.lock = out, parallel, lock
        self.environment = {"OMP_NUM_THREADS": str(threads), "WANDB_MODE": "disabled", **os.environ}
        self.waiting = unfinished(jobs)
        self.total, self.ended = len(self.waiting), 0
        self.running: dict[subprocess.Popen, tuple[Job, float]] = {}
        self.failed: list[Job] = []
        self.signal: int | None = None

    def run(self) -> None:
        """Until nothing is left or a signal came."""
        old = {number: signal.getsignal(number) for number in SIGNALS}
        for number, handler in old.items():
            if handler != signal.SIG_IGN:  # nohup's choice stays
                signal.signal(number, self._on_signal)
        try:
            while self.running or (self.waiting and self.signal is None):
                self._start_what_can()
                time.sleep(POLL_SECONDS)
                self._collect()
        finally:
            for process in self.running:  # only after an error of our own
                process.terminate()
            for number, handler in old.items():
                signal.signal(number, handler)
        write_results(self.out)
        if self.signal is not None:
            _say("stopped; the same command goes on")
            raise SystemExit(128 + self.signal)
        if self.failed:
            for job in self.failed:
                cause = job.needs if job.needs and job.needs in self.failed else job
                _say(f"failed: {job.label}, see {log_path(cause)}")
            raise SystemExit(1)

    def _on_signal(self, number: int, frame: Any) -> None:
        """Each signal is passed on: the first makes the children save, a second ends them."""
        self.signal = number
        for process in self.running:
            process.send_signal(signal.SIGTERM)

    def _start_what_can(self) -> None:
        for job in list(self.waiting):
            if len(self.running) >= self.parallel or self.signal is not None:
                return
            if job.needs in self.failed:
                self.waiting.remove(job)
                self._report(job, "not run: its pre-training failed")
                self.failed.append(job)
            elif job.needs is None or finished(job.needs):
                self.waiting.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        words = command_line(job)
        if "last" not in words:
            _clear(job.folder)
        job.folder.mkdir(parents=True, exist_ok=True)
        _record(job)
        with open(log_path(job), "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "adabc_lightning", *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C reaches this process only
                pass_fds=[self.lock],  # held until the last child has ended, whatever ends us
            )
        self.running[process] = (job, time.monotonic())
        if self.signal is not None:  # it came in between
            process.send_signal(signal.SIGTERM)

    def _collect(self) -> None:
        for process in [process for process in self.running if process.poll() is not None]:
            job, start = self.running.pop(process)
            minutes = (time.monotonic() - start) / 60
            if process.returncode == 0 and finished(job) and (keys := differences(job)):
                said = f"ran with other {', '.join(keys)} than planned: a config has changed since"
                with open(log_path(job), "a") as log:
                    log.write(f"error: {said}\n")
                self._report(job, f"failed: {said}")
                self.failed.append(job)
            elif process.returncode == 0 and finished(job):
                if job.record["kind"] == "run":
                    write_results(self.out)
                self._report(job, f"{_scores(job)}{minutes:.1f} min")
            elif self.signal is not None:
                _say(f"stopped: {job.label}")
            else:
                self._report(job, f"failed after {minutes:.1f} min, see {log_path(job)}")
                self.failed.append(job)

    def _report(self, job: Job, text: str) -> None:
        self.ended += 1
        _say(f"{self.ended}/{self.total} {job.label}: {text}")


def _clear(folder: Path) -> None:
    """Removes what a process left that was killed before it saved anything."""
    if load_json(folder / RECORD):
        for name in ("config.yaml", "metrics.csv", "summary.json"):
            (folder / name).unlink(missing_ok=True)
        for name in ("checkpoints", "tensorboard", "wandb"):
            shutil.rmtree(folder / name, ignore_errors=True)


def _scores(job: Job) -> str:
    score = load_json(job.folder / "summary.json").get("score", {})
    shown = [(name, score.get(name)) for name in ("pretrained", "final", "best")]
    if job.record["kind"] == "pretraining":
        shown = [("score", score.get("pretrained"))]
    return "".join(f"{name} {value:.1f}, " for name, value in shown if value is not None)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
