"""The local engine: each job in a process of its own, several at once."""

import os
import signal
import subprocess
import sys
from typing import Self

from adabc_lightning.commands.experiment.folders import open_log, prepare
from adabc_lightning.commands.experiment.plan import Job
from adabc_lightning.run.lock import FolderLock


class Processes:
    """Runs jobs as processes on this machine.

    Args:
        parallel: processes at the same time.
        threads: for each of them.
        lock: held until the last of them has ended, whatever ends this one.
    """

    def __init__(self, parallel: int, threads: int, lock: FolderLock | None) -> None:
        self.parallel = parallel
        self.locks = [] if lock is None else [lock.fileno()]
        self.environment = {"OMP_NUM_THREADS": str(threads), "WANDB_MODE": "disabled", **os.environ}
        self.processes: dict[subprocess.Popen[bytes], Job] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()  # there are some only after an error of our own

    @property
    def room(self) -> bool:
        """Whether fewer run than may."""
        return len(self.processes) < self.parallel

    @property
    def busy(self) -> bool:
        """Whether any runs."""
        return bool(self.processes)

    def start(self, job: Job) -> None:
        """Starts a process; errors as :func:`prepare`."""
        words = prepare(job)
        with open_log(job) as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "adabc_lightning", *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a terminal's Ctrl-C reaches this process only
                pass_fds=self.locks,
            )
        self.processes[process] = job

    def ended(self) -> list[tuple[Job, bool]]:
        """The jobs whose processes have ended, and whether with status 0."""
        over = [process for process in self.processes if process.poll() is not None]
        return [(self.processes.pop(process), process.returncode == 0) for process in over]

    def stop(self) -> None:
        """The first time the processes save and end, the second time they end."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
