"""summary.json: the numbers of a run that go into a table."""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lightning import Trainer

from adabc_lightning.agent.module import OffToOnModule
from adabc_lightning.callbacks.evaluation import Evaluation
from adabc_lightning.data.hooks import RunCallback, run_callbacks
from adabc_lightning.data.trainer import data_of
from adabc_lightning.errors import UserError
from adabc_lightning.run.allowed import PACKAGES, users_packages
from adabc_lightning.run.atomic import replace_text
from adabc_lightning.run.outcomes import outcomes
from adabc_lightning.run.saved import Listing, Number, Saved, Text, absent
from adabc_lightning.run.schedule import OFFLINE, ONLINE
from adabc_lightning.run.trainer import callbacks_of, find
from adabc_lightning.run.versions import version

LIBRARIES = ("adabc_lightning", "torch", "lightning", "torchrl", "gymnasium", "mujoco", "numpy")
PACKAGE = Path(__file__).resolve().parents[1]


@cache
def source_revision(package: Path = PACKAGE) -> str:
    """Short hash of a package's code, the first 10 digits of a SHA-256 over its ``.py`` files.

    Computed once: a run keeps the code it has loaded.

    Args:
        package: its folder, or the file of a module.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
        try:
            content = path.read_bytes()
        except OSError:  # a folder of such a name, a link of an editor's, a file that is no more
            continue
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:10]


def revision() -> str:
    """Of this code, and of each module of the user's that a config may have imported.

    Returns: ``"5c1d2e3f40"``, or with ``--allow my_parts``
        ``"5c1d2e3f40 + my_parts 6a7b8c9d0e"``.
    """
    of_all = [source_revision()]
    for name in sorted(set(users_packages()) - set(PACKAGES)):
        module = sys.modules.get(name)
        places = getattr(module, "__path__", None) or [getattr(module, "__file__", None)]
        of_all += [f"{name} {source_revision(Path(place))}" for place in places if place]
    return " + ".join(of_all)


def versions() -> dict[str, str]:
    """Of this code, of Python and of the libraries that numbers depend on."""
    own = {"source": revision(), "python": platform.python_version()}
    return own | {name: version(name) for name in LIBRARIES}


class _Seconds(Saved):
    offline: Number
    online: Number


class SavedSummary(Saved):
    """See :meth:`Summary.state_dict`."""

    seconds: _Seconds
    commands: Listing[Text]
    revisions: Listing[Text] = absent()  # 0.1.0 did not say


class Summary(RunCallback):
    """Times both phases and writes ``summary.json`` after each evaluation and at the end.

    Args:
        command: the command line that runs; empty in Python.
        before: those that ran in the folder before it, where nothing was saved yet.
    """

    def __init__(self, command: str = "", before: Sequence[str] = ()) -> None:
        self.commands = [*before, *([command] if command else [])]
        self.seconds = {OFFLINE: 0.0, ONLINE: 0.0}
        self._mark = self._evaluated = 0.0
        self._points = 0  # evaluations that the file knows of
        self._revision = ""
        self.revisions: list[str] = []
        """Of the code, in the order in which they have trained the run."""
        source_revision()

    def on_train_start(self, trainer: Trainer, pl_module: OffToOnModule) -> None:
        """Starts the clock and writes the file.

        A resumed run's says what its checkpoint knows, a new run's has the command, should it be
        killed before its first checkpoint.
        """
        self._mark, self._evaluated = time.perf_counter(), Evaluation.total_seconds
        self._revision = revision()
        self._write(trainer, pl_module, finished=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: OffToOnModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Adds the batch's time, evaluations aside, to its phase; a replica's is that of all."""
        if self.revisions[-1:] != [self._revision]:
            self.revisions.append(self._revision)
        data = data_of(trainer)
        now, evaluated = time.perf_counter(), Evaluation.total_seconds
        training = now - self._mark - (evaluated - self._evaluated)
        self.seconds[ONLINE if data.env_steps else OFFLINE] += training
        self._mark, self._evaluated = now, evaluated
        evaluation = find(trainer, Evaluation)
        new = evaluation is not None and len(evaluation.history) != self._points
        if new or data.schedule.evaluation_due(pl_module.gradient_updates, data.env_steps):
            self._write(trainer, pl_module, finished=False)

    def on_fit_end(self, trainer: Trainer, pl_module: OffToOnModule) -> None:
        """Writes the final numbers, also where a kill came between the last checkpoint and here."""
        data = data_of(trainer)
        done = data.schedule.finished(pl_module.gradient_updates, data.env_steps)
        self._write(trainer, pl_module, finished=done)

    def _write(self, trainer: Trainer, agent: OffToOnModule, finished: bool) -> None:
        evaluation = find(trainer, Evaluation)
        if not trainer.is_global_zero or evaluation is None:
            return
        data = data_of(trainer)
        schedule = data.schedule
        updates, env_steps = agent.gradient_updates, data.env_steps
        offline_updates = updates - agent.online_updates
        rates = {
            "offline_updates_per_second": _rate(offline_updates, self.seconds[OFFLINE]),
            "online_updates_per_second": _rate(agent.online_updates, self.seconds[ONLINE]),
            "online_env_steps_per_second": _rate(env_steps, self.seconds[ONLINE]),
        }
        summary: dict[str, Any] = {
            "finished": finished,
            "env_id": data.env_id,
            "dataset": data.dataset_name,
            **({"datasets": data.kept_of_each} if data.kept_of_each else {}),
            "dataset_fingerprint": None if data.fingerprint is None else data.fingerprint[:10],
            "seed": data.seed,
            **outcomes(evaluation.history, schedule.offline_updates, schedule.online_env_steps),
            "gradient_updates": updates,
            "env_steps": env_steps,
            "seconds": {**self.seconds, "evaluation": evaluation.seconds},
            **rates,
            "engine": agent.running_engine.name,  # what is left of the one that was asked for
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}",
            "commands": self.commands,
            "versions": versions(),
            "revisions": self.revisions,
            "warnings": _warnings(trainer),
        }
        for callback in run_callbacks(trainer):
            own = callback.add_to_summary()
            if taken := sorted(own.keys() & summary.keys()):
                raise UserError(
                    f"{type(callback).__name__}.add_to_summary has {taken[0]}, which summary.json "
                    "has of its own or from another callback; give it another name"
                )
            summary |= _plain(own, type(callback).__name__)
        self._points = len(evaluation.history)
        path = Path(trainer.default_root_dir) / "summary.json"
        replace_text(path, json.dumps(summary, indent=2) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Seconds of both phases, and the commands and revisions of the code so far."""
        return {
            "seconds": dict(self.seconds),
            "commands": list(self.commands),
            "revisions": list(self.revisions),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.seconds = dict(state_dict["seconds"])
        self.commands = [*state_dict["commands"], *self.commands]
        self.revisions = list(state_dict.get("revisions", []))  # 0.1.0 did not say


def _plain(added: dict[str, Any], whose: str) -> Any:
    """What a callback adds, as JSON has it: NumPy's and PyTorch's numbers as plain ones, null for
    what is not finite.

    Raises: UserError: something is neither a number nor a text, or a list or mapping of them.
    """

    def number(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise UserError(
            f"{whose}.add_to_summary has a {type(value).__name__}; it must be plain numbers and "
            "texts, and lists and mappings of them"
        )

    try:
        text = json.dumps(added, default=number)
    except TypeError as error:  # a key
        raise UserError(f"{whose}.add_to_summary: {error}") from error
    return json.loads(text, parse_constant=lambda name: None)


def _warnings(trainer: Trainer) -> list[str]:
    return [text for each in callbacks_of(trainer) for text in getattr(each, "warnings", [])]


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if count and seconds else None
