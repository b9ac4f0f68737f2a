"""Which runs belong to one curve, and which curves into one panel."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from adabc_lightning.commands.report.runs import THEN, Run
from adabc_lightning.data import d4rl
from adabc_lightning.data.packaged import packaged_datasets
from adabc_lightning.env.scores import reference_for
from adabc_lightning.errors import UserError, nearest, printable


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
        protocol: values of :data:`PROTOCOL`.
        curves: in the order of the runs.
        folders: how many of those that a file of one's own lies in its heading names.
    """

    task: str | None
    env_id: str
    dataset: str | None
    protocol: tuple[Any, ...] = (None, None, None)
    curves: list[Curve] = field(default_factory=list)
    folders: int = 0

    @property
    def title(self) -> str:
        """Says which benchmark the numbers belong to."""
        task = "" if self.task is None else f"{self.task}: "
        low, high, steps = self.protocol
        parts = [f"{task}{self.env_id}", benchmark(self.dataset, self.folders)]
        parts += [f"score 0 = {low:g}"] if low is not None else []
        parts += [f"score 100 = {high:g}"] if high is not None else []
        parts += [f"at most {steps} steps per episode"] if steps is not None else []
        return printable(", ".join(parts))

    @property
    def unit_name(self) -> str:
        """The unit for a figure: a score of other reference returns is none of D4RL's."""
        low, high, _ = self.protocol
        known = low is None and high is None and reference_for(self.env_id) is not None
        return f"D4RL {self.unit}" if known and self.unit == "score" else self.unit

    @property
    def unit(self) -> str:
        """``"score"``, or ``"return"`` where no references are known."""
        runs = [run for curve in self.curves for run in curve.runs]
        known = all(run.summary["score"].get("final") is not None for run in runs)
        return "score" if known else "return"


def benchmark(dataset: str | None, folders: int = 0) -> str:
    """A dataset's name with the benchmark it is part of: numbers compare within one only.

    Args:
        dataset: as the runs were given it, several with `` + `` between them.
        folders: how many of those above a file of one's own to name.
    """
    kind = benchmark_kind(dataset)
    if dataset is None:
        return kind
    if kind == "own file":
        parts = [Path(part).parts[-1 - folders :] for part in dataset.split(" + ")]
        dataset = " + ".join(Path(*part).as_posix() for part in parts)
    return f"{dataset} ({kind})"


def benchmark_kind(dataset: str | None) -> str:
    """``"D4RL v2"``, ``"Minari"``, …: what a dataset is part of."""
    if dataset is None:
        return "no dataset"
    if dataset in packaged_datasets():
        return "packaged log"
    version = re.search(r"-v(\d+)$", dataset)
    if version is None or _is_file(dataset):
        return "own file"
    return f"D4RL v{version[1]}" if dataset in d4rl.FILES else "Minari"


def _is_file(dataset: str) -> bool:
    try:
        return Path(dataset).is_file()
    except OSError:  # a name that no file can have
        return False


def panels(runs: list[Run]) -> list[Panel]:
    """Sorts runs into panels and curves.

    A run without a dataset (REDQ from scratch) stands beside the other runs of its experiment's
    task; two curves of one name are told apart by their folders.

    Raises: UserError: two runs of one seed cannot be told apart.
    """
    datasets: dict[tuple[Any, ...], set[str]] = {}
    for run in runs:
        if run.summary["dataset"] is not None and run.record:
            datasets.setdefault(_cell(run), set()).add(run.summary["dataset"])
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], list[Run]]] = {}
    for run in runs:
        env_id, dataset = run.summary["env_id"], run.summary["dataset"]
        others = datasets.get(_cell(run), set())
        if dataset is None and run.record and len(others) == 1:
            (dataset,) = others
        task = run.record.get("task")
        where = (task, env_id, dataset, run.protocol)
        key = (run.record.get("variant"), run.method)
        groups.setdefault(where, {}).setdefault(key, []).append(run)
    made = []
    for where, variants in groups.items():
        panel = Panel(*where)
        made.append(panel)
        for (variant, _), members in variants.items():
            for same in _each_seed_once(members):
                same.sort(key=lambda run: run.summary["seed"])
                panel.curves.append(Curve(printable(str(variant or _common_name(same))), same))
        names = [curve.label for curve in panel.curves]
        for full in (False, True):
            labels = [curve.label for curve in panel.curves]
            for curve, name, label in zip(panel.curves, names, labels, strict=True):
                if labels.count(label) > 1:
                    folder = curve.runs[0].folder
                    curve.label = printable(f"{name} ({folder if full else folder.parent})")
    _tell_apart(made)
    return made


def _tell_apart(panels: list[Panel]) -> None:
    """Names as many folders of files as it takes for no two headings to be alike."""
    deepest = max((len(Path(panel.dataset or "").parts) for panel in panels), default=0)
    for _ in range(deepest):
        count = Counter(panel.title for panel in panels)
        for panel in [panel for panel in panels if count[panel.title] > 1]:
            panel.folders += 1


def put_first(panels: list[Panel], label: str) -> None:
    """Puts a variant before the others, wherever it is.

    Raises: UserError: it is nowhere.
    """
    known = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    if label not in known:
        raise UserError(
            f"--first is {label!r:.100}, no variant of these runs; {nearest(label, known)}"
        )
    for panel in panels:
        panel.curves.sort(key=lambda curve: curve.label != label)


def mixed_sources(panels: list[Panel]) -> list[str]:
    """A line for each curve whose runs were made by different revisions of the code, or of
    different data.
    """
    lines = []
    for panel in panels:
        for curve in panel.curves:
            sources = {run.source for run in curve.runs if run.source is not None}
            data = {run.data for run in curve.runs if run.data is not None}
            of = f"{curve.label}, {panel.title}"
            if len(sources) > 1 or any(THEN in source for source in sources):
                what = f"made by different revisions of the code ({', '.join(sorted(sources))})"
                lines.append(f"{what}: {of}")
            if len(data) > 1:
                lines.append(
                    f"made of different data under one name ({', '.join(sorted(data))}): {of}"
                )
    return lines


def _each_seed_once(runs: list[Run]) -> list[list[Run]]:
    """Splits runs of one config by the checkpoint they continue, or else by where they lie.

    Checkpoints whose paths differ in numbers only (seeds, dates) are taken for one kind; a run
    that was gone on with does not say what it started from, and stays with the others.

    Raises: UserError: two runs of one seed remain.
    """
    starts = {_kind_of_start(run) for run in runs} - {"last"}
    by: list[Callable[[Run], Any]] = [
        _kind_of_start if len(starts) > 1 else lambda run: None,
        lambda run: run.folder.parent,
        lambda run: run.config.get("ckpt_path"),
    ]
    for key in by:
        parts: dict[Any, list[Run]] = {}
        for run in runs:
            parts.setdefault(key(run), []).append(run)
        if not any(_twins(part) for part in parts.values()):
            return list(parts.values())
    first, second = next(twins for part in parts.values() if (twins := _twins(part)))
    raise UserError(
        f"{first.folder} and {second.folder} both hold seed {first.summary['seed']} of one config; "
        "leave one of them out"
    )


def _twins(runs: list[Run]) -> tuple[Run, Run] | None:
    """Two runs of one seed."""
    seen: dict[int, Run] = {}
    for run in runs:
        other = seen.setdefault(run.summary["seed"], run)
        if other is not run:
            return other, run
    return None


def _kind_of_start(run: Run) -> str:
    path = run.config.get("ckpt_path")
    return "last" if run.record else re.sub(r"\d+", "#", str(path))


def _cell(run: Run) -> tuple[Any, ...]:
    return (run.record.get("experiment"), run.record.get("task"), run.summary["env_id"])


def _common_name(runs: list[Run]) -> str:
    """``demo`` for ``demo0``, ``demo1``; a single run keeps its folder's name."""
    names = [run.folder.resolve().name for run in runs]
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in same).rstrip("-_ 0123456789") or names[0]
