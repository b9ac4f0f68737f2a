"""Runs on disk, and which of them belong to one curve and one panel."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from adabc_lightning.errors import UserError
from adabc_lightning.experiment.results import RECORD, load_json

# Keys that tell runs of one method apart without changing it.
NOT_THE_METHOD = ("seed_everything", "ckpt_path", "logging", "trainer")


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
            columns: wanted beside ``gradient_updates`` and ``env_steps``, left out where empty.
        """
        names = ("gradient_updates", "env_steps", *columns)
        with open(self.folder / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["eval/return"]]
        return [{name: float(row[name]) for name in names if row[name]} for row in rows]

    @property
    def initial_alpha(self) -> float:
        """α at the hand-over."""
        alpha = self.config["alpha"]
        return alpha["ceiling"] if alpha["initial"] is None else alpha["initial"]

    @property
    def method(self) -> str:
        """What runs have in common that differ in their seed only."""
        rest = {name: keys for name, keys in self.config.items() if name not in NOT_THE_METHOD}
        callbacks = self.config.get("trainer", {}).get("callbacks")
        return json.dumps([rest, callbacks], sort_keys=True)


@dataclass
class Curve:
    """Runs that differ in their seed only, in the order of their seeds."""

    label: str
    runs: list[Run]

    @property
    def unfinished(self) -> int:
        """How many runs have not reached their end."""
        return sum(not run.finished for run in self.runs)


@dataclass
class Panel:
    """Curves that may be compared: one environment, one dataset.

    Args:
        task: the experiment's name for it; None outside experiments.
        env_id: Gymnasium id.
        dataset: as the runs were given it; None where no run had one.
        curves: in the order of the runs.
    """

    task: str | None
    env_id: str
    dataset: str | None
    curves: list[Curve] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Says which benchmark the numbers belong to."""
        task = "" if self.task is None else f"{self.task}: "
        return f"{task}{self.env_id}, {benchmark(self.dataset)}"

    @property
    def unit(self) -> str:
        """``"score"``, or ``"return"`` where no references are known."""
        runs = [run for curve in self.curves for run in curve.runs]
        known = all(run.summary["score"]["final"] is not None for run in runs)
        return "score" if known else "return"


def benchmark(dataset: str | None) -> str:
    """A dataset's name with the benchmark it is part of: numbers compare within one only."""
    if dataset is None:
        return "no dataset"
    version = re.search(r"-v(\d+)$", dataset)
    if dataset.endswith((".hdf5", ".h5")) or Path(dataset).is_file():
        return f"{Path(dataset).name} (own file)"
    if version and "/" in dataset:
        return f"{dataset} (Minari)"
    if version:
        return f"{dataset} (D4RL v{version[1]})"
    return f"{dataset} (packaged log)"


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[Path]]:
    """Every run in or below some folders, pre-trainings of experiments aside.

    Returns: the runs, and the folders of those that were not evaluated yet.
    Raises: UserError: a path is no folder, holds no run or a broken one.
    """
    runs: dict[Path, Run] = {}
    empty: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise UserError(f"there is no folder {path}; give folders of runs, or folders of those")
        folders = sorted({file.parent for file in path.rglob("config.yaml")}, key=_natural)
        found = [folder for folder in folders if (folder / "metrics.csv").is_file()]
        if not found:
            raise UserError(f"there is no run in {path}; a run's folder has a metrics.csv")
        for folder in found:
            record = load_json(folder / RECORD)
            if record.get("kind") == "pretraining" or folder.resolve() in runs:
                continue
            summary = load_json(folder / "summary.json")
            if not summary:
                empty.append(folder)
                continue
            config = yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), _LOADER)
            runs[folder.resolve()] = Run(folder, summary, config, record)
    return list(runs.values()), empty


def panels(runs: list[Run]) -> list[Panel]:
    """Sorts runs into panels and curves.

    A run without a dataset (REDQ from scratch) stands beside the other runs of its experiment's
    task; two curves of one name are told apart by their folders.
    """
    datasets: dict[tuple[Any, ...], set[str]] = {}
    for run in runs:
        if run.summary["dataset"] is not None and run.record:
            datasets.setdefault(_cell(run), set()).add(run.summary["dataset"])
    made: dict[tuple[Any, ...], Panel] = {}
    groups: dict[int, dict[tuple[Any, ...], list[Run]]] = {}
    for run in runs:
        env_id, dataset = run.summary["env_id"], run.summary["dataset"]
        others = datasets.get(_cell(run), set())
        if dataset is None and run.record and len(others) == 1:
            (dataset,) = others
        task = run.record.get("task")
        panel = made.setdefault((task, env_id, dataset), Panel(task, env_id, dataset))
        key = (run.record.get("variant"), run.method)
        groups.setdefault(id(panel), {}).setdefault(key, []).append(run)
    for panel in made.values():
        for (variant, _), members in groups[id(panel)].items():
            members.sort(key=lambda run: run.summary["seed"])
            panel.curves.append(Curve(variant or _common_name(members), members))
        labels = [curve.label for curve in panel.curves]
        for curve, label in zip(panel.curves, labels, strict=True):
            if labels.count(label) > 1:
                curve.label = f"{label} ({curve.runs[0].folder.parent})"
    return list(made.values())


def _cell(run: Run) -> tuple[Any, ...]:
    return (run.record.get("experiment"), run.record.get("task"), run.summary["env_id"])


def _common_name(runs: list[Run]) -> str:
    """``demo`` for ``demo0``, ``demo1``; a single run keeps its folder's name."""
    names = [run.folder.resolve().name for run in runs]
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same).rstrip("-_ 0123456789") or names[0]


def _natural(path: Path) -> list[Any]:
    """Sorts seed10 after seed9."""
    words = re.split(r"(\d+)", path.as_posix())
    return [(word.isdigit(), int(word) if word.isdigit() else word) for word in words]


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
