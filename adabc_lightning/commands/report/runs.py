"""Runs on disk: what their files say."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adabc_lightning.commands.report import contents
from adabc_lightning.commands.results import load_order
from adabc_lightning.errors import UserError
from adabc_lightning.run.config_files import load
from adabc_lightning.run.outcomes import falls
from adabc_lightning.run.record import RECORD, load_json

# Keys that tell runs of one method apart without changing it.
NOT_THE_METHOD = ("seed_everything", "ckpt_path", "logging", "trainer")
# Keys of data that say, beside dataset and environment, what a number means.
PROTOCOL = ("reference_min", "reference_max", "max_episode_steps")

THEN = " then "  # between revisions of the code, one after the other in one run


@dataclass(frozen=True)
class Run:
    """One run, finished or not.

    Args:
        folder: where it lies.
        summary: its ``summary.json``.
        config: its ``config.yaml``.
        record: its ``experiment.json``, empty outside experiments.
    """

    folder: Path
    summary: dict[str, Any]
    config: dict[str, Any]
    record: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether it reached the end of its schedule."""
        return bool(self.summary["finished"])

    def evaluations(self, *columns: str) -> list[dict[str, float]]:
        """The rows of ``metrics.csv`` that hold an evaluation.

        Args:
            columns: wanted beside ``gradient_updates`` and ``env_steps``, left out where empty or
                not there.
        Raises: UserError: it holds something else.
        """
        known = [name for name in columns if name in self.metrics]
        names = ("gradient_updates", "env_steps", *known)
        evaluated = ~np.isnan(self.column("eval/return"))
        found = [(name, self.column(name)[evaluated]) for name in names]
        return [
            {name: float(values[i]) for name, values in found if not np.isnan(values[i])}
            for i in range(evaluated.sum())
        ]

    def column(self, name: str) -> np.ndarray:
        """A column of ``metrics.csv``, ``[rows]``, NaN where it is empty.

        Raises: UserError: the file is damaged or has no such column.
        """
        if name not in self.metrics:
            path = self.folder / "metrics.csv"
            raise UserError(f"{path} is damaged: it has no column {name!r}")
        return self.metrics[name]

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Every column of ``metrics.csv`` but ``phase``; a line that is still written is left out.

        What is infinite, or so large that sums would be, is no point of any curve: NaN.

        Raises: UserError: it holds something else.
        """
        path = self.folder / "metrics.csv"
        try:
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if not whole:
                raise ValueError("it is empty")
            header, *rows = csv.reader(io.StringIO(whole, newline=""), strict=True)
            if any(len(row) != len(header) for row in rows):
                raise ValueError("its lines differ in length")
            values = {name: [row[i] for row in rows] for i, name in enumerate(header)}
            values.pop("phase", None)
            columns = {
                name: np.array([float(value or "nan") for value in column])
                for name, column in values.items()
            }
        except (ValueError, csv.Error) as error:
            raise UserError(f"{path} is damaged: {error}") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        contents.check_metrics(path, columns)
        for column in columns.values():
            column[abs(column) >= contents.LARGEST] = np.nan
        return columns

    @property
    def initial_alpha(self) -> float:
        """α at the hand-over."""
        alpha = self.config["alpha"]
        return alpha["ceiling"] if alpha["initial"] is None else alpha["initial"]

    @property
    def steps_in_trials(self) -> int | None:
        """Environment steps beside those of training; None where every policy is deployed."""
        counts = self.summary.get("trials")
        return counts.get("env_steps") if isinstance(counts, dict) else None

    @property
    def protocol(self) -> tuple[Any, ...]:
        """The values of :data:`PROTOCOL`."""
        return tuple(self.config["data"].get(name) for name in PROTOCOL)

    @property
    def source(self) -> str | None:
        """Revisions of the code that made it; None in runs of versions that did not write them."""
        last = (self.summary.get("versions") or {}).get("source")
        return THEN.join(self.summary.get("revisions", [])) or last

    @property
    def data(self) -> str | None:
        """A hash of the offline rows; None without any, and in runs of earlier versions."""
        return self.summary.get("dataset_fingerprint")

    @property
    def method(self) -> str:
        """What runs have in common that differ in their seed only."""
        rest = {name: keys for name, keys in self.config.items() if name not in NOT_THE_METHOD}
        callbacks = (self.config.get("trainer") or {}).get("callbacks")
        return json.dumps([rest, callbacks], sort_keys=True)


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Every run in or below some folders, pre-trainings of experiments aside.

    Those of an experiment come in the order in which it declares tasks and variants, others, and
    what lies below several folders, in that of the folders.

    Returns: the runs, and for each that is left out a clause that says which and why.
    Raises: UserError: a path is no folder or holds no run.
    """
    runs: dict[Path, Run] = {}
    left: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"there is no folder {path}; give folders of runs, or folders of those")
        folders = sorted({file.parent for file in path.rglob("config.yaml")}, key=_natural)
        found = [
            folder
            for folder in folders
            # A folder of replicas gathers the rows of the runs in it.
            if (folder / "metrics.csv").is_file() and not (folder / "replica_0").is_dir()
        ]
        if not found:
            raise UserError(
                f"there is no run of fit in {path}, which would have a config.yaml and a "
                "metrics.csv"
            )
        here = []
        for folder in found:
            try:
                run = _read(folder)
            except UserError as error:
                left[folder.resolve()] = str(error)
                continue
            if run is not None:
                here.append(run)
        for run in _as_declared(here):
            runs.setdefault(run.folder.resolve(), run)
    return list(runs.values()), list(left.values())


def _read(folder: Path) -> Run | None:
    """The run of a folder, None where it is an experiment's pre-training.

    Raises: UserError: it was not evaluated yet, or its files are damaged.
    """
    if not _is_utf8(str(folder)):
        raise UserError(f"{folder} has a name that is not UTF-8; rename it")
    record = load_json(folder / RECORD)
    if record.get("kind") == "pretraining":
        return None
    path, config_path = folder / "summary.json", folder / "config.yaml"
    summary, config = load_json(path), _named_by_texts(load(config_path))
    if not summary:
        raise UserError(f"not evaluated yet: {folder}")
    summary.setdefault("revisions", [])  # not in those of earlier versions
    contents.check(folder / RECORD, record, contents.RECORD)
    contents.check(path, summary, contents.SUMMARY)
    contents.check(config_path, config, contents.CONFIG)
    run = Run(folder, summary, config, record)
    if not run.evaluations():
        raise UserError(f"{folder / 'metrics.csv'} holds no evaluation")
    for unit in ("score", "return"):
        if "drawdown" not in summary[unit]:  # of an earlier version
            rows = run.evaluations(f"eval/{unit}")
            after = [r[f"eval/{unit}"] for r in rows if r["env_steps"] and f"eval/{unit}" in r]
            summary[unit] |= falls(summary[unit].get("pretrained"), after)
    return run


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named_by_texts(config: Any) -> Any:
    """A config whose keys are texts: sorted and shown like any, whatever YAML makes of them."""
    if isinstance(config, list):
        return [_named_by_texts(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {str(name): _named_by_texts(value) for name, value in config.items()}


def _as_declared(runs: list[Run]) -> list[Run]:
    """Runs in the order of folders, those of one experiment as it declares tasks and variants."""
    orders: dict[Path, dict[str, list[str]]] = {}

    def place(run: Run) -> tuple[Any, ...]:
        folder = Path(os.path.abspath(run.folder))  # through no links: as the user sees the folders
        for out in folder.parents[2:4] if run.record else ():  # of a single run, of a replica
            if out not in orders:
                orders[out] = load_order(out)
            if order := orders[out]:
                cell = [(order[f"{name}s"], run.record.get(name)) for name in ("task", "variant")]
                found = [names.index(x) if x in names else len(names) for names, x in cell]
                return (_natural(out), *found)
        return _natural(folder), 0, 0

    return sorted(runs, key=place)


def _natural(path: Path) -> tuple[Any, ...]:
    """Sorts seed10 after seed9, and 0.05 before 0.1."""
    words = re.split(r"(\d+(?:\.\d+)?)", path.as_posix())  # a number after every text
    return [float(word) if i % 2 else word for i, word in enumerate(words)], path.as_posix()
