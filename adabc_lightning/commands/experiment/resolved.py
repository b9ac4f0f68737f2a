"""Whether the run in a folder, by its ``config.yaml``, is the one that was planned for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adabc_lightning.commands.experiment.declaration import OWN_KEYS
from adabc_lightning.commands.experiment.plan import (
    AFTER_PRETRAINING,
    Job,
    among,
    checkpoint,
    defaults,
    offline,
)
from adabc_lightning.run.config_files import load
from adabc_lightning.run.nested import at


def differences(job: Job) -> list[str]:
    """Keys in which the run in a job's folder is not the planned one.

    ``fit`` reads the configs anew when its turn comes, hours after they were planned. Keys that
    were not planned and are no defaults of ``base.yaml`` are the Trainer's and the named classes'.

    Returns: none as well where no run has started yet.
    Raises: UserError: ``config.yaml`` is damaged.
    """
    if not (job.folder / "config.yaml").is_file():
        return []
    ran = load(job.folder / "config.yaml")
    planned: dict[str, Any] = job.record["settings"]
    plain = {key.removesuffix("+") for key in planned}
    groups = {key[:end] for key in plain for end, sign in enumerate(key) if sign == "."}
    base = {"trainer.callbacks": None, **defaults()}
    base = {key: value for key, value in base.items() if key not in plain | groups}
    without = tuple(OWN_KEYS)  # which the record does not say, or says elsewhere
    if job.record["kind"] == "pretraining":
        ran, without = offline(ran), AFTER_PRETRAINING
    found = []
    for key, value in {**base, **planned}.items():
        there = at(ran, key.removesuffix("+"), _MISSING if key in base else None)
        if not among(key, without) and not _same(value, there):
            found.append(key)
    return sorted(found)


def strangeness(job: Job) -> list[str]:
    """Keys in which a run that no experiment started is not the planned one: seed and start, too.

    A run that was gone on with does not say any more what it started from.
    """
    ran = load(job.folder / "config.yaml")
    found = differences(job)
    if ran.get("seed_everything") != job.record["seed"]:
        found.append("seed_everything")
    start = ran.get("ckpt_path")
    planned = None if job.needs is None else checkpoint(job.needs)
    if start != "last" and _full(start) != _full(planned):
        found.append("ckpt_path")
    steps = at(ran, "schedule.online_env_steps")
    if job.record["kind"] == "pretraining" and steps != 0:
        found.append("schedule.online_env_steps")
    return found


def _full(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path).resolve()


_MISSING = object()  # of an earlier version, which had no such key: equals whatever is optional


def _same(planned: Any, ran: Any) -> bool:
    """Whether ``fit`` wrote down a planned value: it completes classes and converts numbers."""
    if ran is _MISSING:
        return True
    if isinstance(planned, Mapping) and isinstance(ran, Mapping):
        return all(_same(value, ran.get(name)) for name, value in planned.items())
    if isinstance(planned, list) and isinstance(ran, list):
        return len(planned) == len(ran) and all(map(_same, planned, ran))
    if isinstance(planned, str) and isinstance(ran, Mapping):  # a class without arguments
        return _same(planned, ran.get("class_path"))
    if isinstance(planned, str) and isinstance(ran, str):
        return ran == planned or ran.endswith(f".{planned}")
    if isinstance(planned, str) and isinstance(ran, int | float):
        try:
            return float(planned) == ran  # YAML takes 3e-4 for text
        except ValueError:
            return False
    return planned == ran or (isinstance(ran, str) and str(planned) == ran)
