"""Whether each ``fit`` of an experiment could begin, before the first of them is hours old.

As a program (``python -m …rehearsal``), in a process of its own, since it imports PyTorch: reads
labels and command lines as JSON, makes the parts of each, trains nothing, and says which it cannot
make.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from adabc_lightning.commands.experiment.plan import Job
from adabc_lightning.errors import UserError, first_cause

WORTH_IT = 100_000
"""Gradient updates of all jobs; with fewer, a job has shown what is wrong as soon as this would."""
_OF_A_JOB = ("--seed_everything", "--trainer.default_root_dir", "--ckpt_path")


def rehearse(jobs: Iterable[Job]) -> None:
    """Has the parts of all runs made, each variant on each task once.

    Args:
        jobs: those that are to start.
    Raises: UserError: the first that cannot be made, and why.
    """
    jobs = list(jobs)
    if sum(job.updates for job in jobs) < WORTH_IT:
        return
    cells: dict[str, list[str]] = {}
    for job in jobs:
        record = job.record
        if record["kind"] == "run":
            cells.setdefault(f"{record['variant']} on {record['task']}", _common(job.words))
    module = "adabc_lightning.commands.experiment.rehearsal"
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(list(cells.items())),
        env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(done.stdout.strip() or f"the runs cannot be made: {done.stderr[-500:]}")


def _common(words: list[str]) -> list[str]:
    """A command line without what each job has of its own."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for option, value in pairs if option not in _OF_A_JOB for word in (option, value)]


def _make(words: list[str], folder: str) -> None:
    from adabc_lightning.commands.command_line import CommandLine
    from adabc_lightning.run.config_files import resolve
    from adabc_lightning.run.lock import FolderLock

    own = ["--trainer.default_root_dir", str(Path(folder, "run"))]
    with FolderLock("a run", "--out") as lock:
        CommandLine("fit", *resolve("fit", [*words, *own]), lock, dry=True)


def _main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        for label, words in json.load(sys.stdin):
            try:
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    _make(words, folder)
            except (Exception, SystemExit) as error:  # whatever fit would end with
                said = error if isinstance(error, UserError) else first_cause(error)
                print(f"{label}: {said}")
                return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
