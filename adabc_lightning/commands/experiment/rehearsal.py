"""Whether each ``fit`` of an experiment could begin, before the first of them is hours old.

As a program (``python -m …rehearsal FILE``), in a process of its own, since it imports PyTorch:
reads labels and command lines as JSON, plans each as ``fit --dry-run`` does, and writes into the
file why one cannot be, or what the plans warn of.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from adabc_lightning.commands.experiment.declaration import OWN_KEYS
from adabc_lightning.commands.experiment.plan import Job
from adabc_lightning.commands.experiment.progress import say
from adabc_lightning.errors import UserError, first_cause, warn

WORTH_IT = 100_000
"""Gradient updates of all jobs; fewer are not worth the seconds that this takes."""


def rehearse(jobs: Sequence[Job]) -> None:
    """Has all runs planned, each variant on each task once, and says what ``fit`` would warn of.

    A run's own warnings go to its log, where nobody looks before its hours are over.

    Args:
        jobs: those that are not finished.
    Raises: UserError: the first that cannot be, and why.
    """
    if sum(job.updates for job in jobs) < WORTH_IT:
        return
    cells: dict[str, list[str]] = {}
    for job in jobs:
        record = job.record
        if record["kind"] == "run":
            cells.setdefault(f"{record['variant']} on {record['task']}", _common(job.words))
    module = "adabc_lightning.commands.experiment.rehearsal"
    say(f"planning {len(cells)} run{'s' if len(cells) > 1 else ''} before the first begins")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer")  # environments may write to standard output
        done = subprocess.run(
            [sys.executable, "-m", module, str(answer)],
            input=json.dumps(list(cells.items())),
            env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(f"the runs cannot be planned: {done.stderr[-500:]}")
        said = json.loads(answer.read_text(encoding="utf-8"))
    if isinstance(said, str):
        raise UserError(said)
    for text, (first, *others) in said.items():
        more = f" and {len(others)} more" if others else ""
        warn(f"{text} ({first}{more})")


def _common(words: list[str]) -> list[str]:
    """A command line without what each job has of its own."""
    pairs = zip(words[::2], words[1::2], strict=True)
    own = {f"--{key}" for key in OWN_KEYS}
    return [word for option, value in pairs if option not in own for word in (option, value)]


def _plan(words: list[str], folder: str) -> list[str]:
    """Plans a run; what it warns of."""
    from adabc_lightning.commands.fit import run
    from adabc_lightning.run.config_files import resolve

    own = ["--trainer.default_root_dir", str(Path(folder, "run"))]
    fresh = warnings.catch_warnings()  # else what was said of one run is not said of the next
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as heard, fresh:
        run("fit", *resolve("fit", [*words, *own]), dry=True)
    begun = "warning: "
    lines = heard.getvalue().splitlines()
    return [line.removeprefix(begun) for line in lines if line.startswith(begun)]


def _main(answer: Path) -> None:
    heard: dict[str, list[str]] = {}
    said: str | dict[str, list[str]] = heard
    with tempfile.TemporaryDirectory() as folder:
        for label, words in json.load(sys.stdin):
            try:
                for text in dict.fromkeys(_plan(words, folder)):
                    heard.setdefault(text, []).append(label)
            except (Exception, SystemExit) as error:  # whatever fit would end with
                why = error if isinstance(error, UserError) else first_cause(error)
                said = f"{label}: {why}"
                break
    answer.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
